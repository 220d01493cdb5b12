"""The bill before the first call: calls, tokens, price and hours of each stage, from the profile's own questions.

The questions are those of a finished decontamination stage, else a sample of the sources at hand, else the hand-written
corpus; the first line of the estimate says which. Input is counted on the real prompts by a rule of characters per
token; output cannot be known beforehand and is an expected length per call.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from star1lib.collection import corpus, sources
from star1lib.deliberation import prompts
from star1lib.deliberation.prompts import Messages
from star1lib.errors import UserError
from star1lib.files import read_records
from star1lib.models import roles
from star1lib.models.roles import LOCAL, Price, Role
from star1lib.policies import CATEGORIES
from star1lib.records import Question
from star1lib.study import stages, tables
from star1lib.study.profiles import Profile

PAPER_POOL = 41_000  # questions after deduplication in the paper (2.1)
# English prompts of this project have 4.1 to 4.9 characters per token of SmolLM2's tokenizer.
CHARS_PER_TOKEN, TOKENS_PER_MESSAGE = 4, 4
# What one hosted call is assumed to take, and how many are open at once where the role does not say.
TOKENS_PER_SECOND, SECONDS_TO_FIRST_TOKEN, CONNECTIONS = 50.0, 1.0, 20
# Mean characters in the published 1,000 rows: thinking and answer of the teacher.
THINKING_CHARS, ANSWER_CHARS = 1347, 474
_SAMPLE = 500


class Asked(NamedTuple):
    """Calls of one kind: a sample of their prompts, their true number, and the expected tokens of an answer."""

    stage: str
    role: str
    prompts: Sequence[Messages]
    output_tokens: float
    calls: int


def table(profile: Profile, *, mirror: str | None = None, root: Path = Path()) -> str:
    """The estimate of `profile` as text: where the prompts come from, then a row per stage and a total.

    Raises :class:`UserError` when the profile names no model roles.
    """
    known = roles.models(roles.load(profile.roles, profile.prices))
    if "teacher" not in known:
        raise UserError(f"profile '{profile.name}': its roles call no model, so there is no bill; try PROFILE=paper.")
    questions, pool, origin = _questions(profile, mirror, root)
    size = int(profile.setting("04_selection", "size", 1000))
    bills = [bill(asked, known[asked.role]) for asked in calls(questions, pool, size) if asked.role in known]
    return f"prompts: {len(questions)} of {pool:,} questions, {origin}\n{markdown(bills)}"


def bill(asked: Asked, role: Role) -> dict[str, Any]:
    """What the calls `asked` take when `role` answers them: tokens in total, `usd`, `hours`.

    A local model is free; `usd` is None without a known price.
    """
    sizes = [sum(TOKENS_PER_MESSAGE + -(-len(message["content"]) // CHARS_PER_TOKEN) for message in prompt)
             for prompt in asked.prompts]  # fmt: skip
    expected = min(asked.output_tokens, role.max_tokens)
    read, written = asked.calls * sum(sizes) / len(sizes), asked.calls * expected
    price = role.price or (Price(input=0, output=0) if role.provider in LOCAL else None)
    latency = SECONDS_TO_FIRST_TOKEN + expected / TOKENS_PER_SECOND
    hours = asked.calls * latency / (role.max_connections or CONNECTIONS) / 3600
    return {"stage": asked.stage, "role": role.name, "model": role.model, "calls": asked.calls,
            "input_tokens": round(read), "output_tokens": round(written),
            "usd": price.cost(read, written) if price else None, "hours": hours}  # fmt: skip


def calls(questions: Sequence[str], pool: int, selected: int = 1000) -> list[Asked]:
    """The calls of sections 2.2, 2.3 and 4.3 for `pool` questions, built by the real prompt functions.

    `questions` are a sample of the pool; `selected` of the pool get a benign variant. Traces have the mean length of
    the published ones. Categories are not known yet: one policy each, two for every third.
    """
    if not questions:
        raise UserError("estimate: there are no questions to count on; run the collection first.")
    trace = "x" * THINKING_CHARS, "x" * ANSWER_CHARS
    length = sum(map(len, trace)) / CHARS_PER_TOKEN
    words = sum(map(len, questions)) / len(questions) / CHARS_PER_TOKEN
    variants = min(selected, pool)
    pairs = [[name, CATEGORIES[place - 1]] for place, name in enumerate(CATEGORIES)]
    tagged = [(question, pairs[number % len(pairs)][: 1 if number % 3 else 2])
              for number, question in enumerate(questions)]  # fmt: skip
    return [
        Asked("tag", "classifier", [prompts.classify(q) for q in questions], 20, pool),
        Asked("deliberate", "teacher", [prompts.deliberate(*pair) for pair in tagged], length, pool),
        Asked("score", "scorer", [prompts.score(*pair, *trace) for pair in tagged], 22, pool),
        Asked("rewrite", "benign_rewriter", [prompts.rewrite_benign(q) for q in questions], words + 8, variants),
        Asked("answer benign variants", "teacher", [prompts.answer_benign(q) for q in questions], length, variants),
        Asked("score benign variants", "benign_scorer", [prompts.score_benign(q, *trace) for q in questions], 20,
              variants),
    ]  # fmt: skip


def markdown(bills: Sequence[Mapping[str, Any]]) -> str:
    """The bills as a table with a total, and a note on how tokens were counted."""
    import pandas as pd

    frame = pd.DataFrame(bills)
    total = frame[["calls", "input_tokens", "output_tokens", "usd", "hours"]].sum().to_frame().T.assign(stage="total")
    shown = pd.concat([frame, total]).fillna({"role": "", "model": ""})
    forms = {"calls": ",.0f", "input_tokens": ",.0f", "output_tokens": ",.0f", "usd": ",.2f", "hours": ".2f"}
    for column, form in forms.items():
        shown[column] = ["-" if value != value else format(value, form) for value in shown[column].astype(float)]
    notes = [f"Input tokens counted by {CHARS_PER_TOKEN} characters per token."]
    if unknown := sorted({bill["model"] for bill in bills if bill["usd"] is None}):
        notes.append(f"No price known for {', '.join(unknown)}: add it under 'prices:'; the total leaves it out.")
    notes.append(f"Hours assume {TOKENS_PER_SECOND:g} tokens a second per call, and max_connections calls at once.")
    return "\n".join([*tables.markdown(shown), "", *notes])


def _questions(profile: Profile, mirror: str | None, root: Path) -> tuple[list[str], int, str]:
    kept = root / stages.BUILD / profile.name / "02_decontamination" / "kept.jsonl"
    if kept.exists():
        texts = [question.text for question in read_records(kept, Question)]
        return _sample(texts), len(texts), "from the finished decontamination stage"
    texts = []
    for name in profile.setting("01_sources", "train_sets", []) if mirror else ():
        with suppress(UserError):  # the sources stage reports what is unavailable; a bill only needs typical lengths
            texts += [question.text for question in sources.load(name, Path(mirror or ""))]
    if texts:
        return _sample(texts), PAPER_POOL, f"a seeded sample of the {len(texts):,} at hand; the pool is the paper's"
    return _sample([row.question for row in corpus.load().harmful]), PAPER_POOL, "the hand-written corpus as a sample"


def _sample(texts: list[str]) -> list[str]:
    return texts if len(texts) <= _SAMPLE else random.Random(0).sample(texts, _SAMPLE)
