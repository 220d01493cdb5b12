"""Seeded samples of examples, in their original order."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .records import Example


def subset(examples: Sequence[Example], limit: int | None, seed: int, *, max_chars: int | None = None) -> list[Example]:
    """At most `limit` examples, a seeded sample in the original order, none longer than `max_chars` characters.

    The length is that of question, trace and answer together; None means no bound.
    """
    short = [
        example
        for example in examples
        if max_chars is None or len(example.question) + len(example.thinking) + len(example.answer) <= max_chars
    ]
    if limit is None or limit >= len(short):
        return short
    chosen = sorted(random.Random(seed).sample(range(len(short)), limit))
    return [short[index] for index in chosen]
