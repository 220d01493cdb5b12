"""The one exception that users see: a sentence that names the file, the field and the remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

# What a terminal obeys, and what turns the direction of a line; line feeds and tabs stay.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class UserError(Exception):
    """Bad input or environment. The message is one clear sentence and carries no traceback."""


def plain(text: str) -> str:
    """`text` with control characters written as escapes, so that no terminal obeys them."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def shorten(text: str, width: int = 60) -> str:
    """`text` on one line, at most `width` characters, for error messages and logs."""
    flat = plain(" ".join(text.split()))
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def meant(name: str, known: Collection[str]) -> str:
    """For a message about the unknown `name`: which of the `known` ones comes close, and what they are."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(known) or 'none'}"
