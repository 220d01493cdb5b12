"""The bill before the first call: what a profile's data would cost, from real prompts and its price table.

Prompt lengths come from the profile's own questions: those of a finished decontamination stage, else
a sample of the sources at hand, else the hand-written corpus; the first line of the estimate says which.
"""

from __future__ import annotations

import random
from pathlib import Path

from star1lib.collection import corpus
from star1lib.errors import UserError
from star1lib.files import read_records
from star1lib.models import roles
from star1lib.records import Question
from star1lib.study import bill
from star1lib.study import stages as study
from star1lib.study.profiles import Profile

PAPER_POOL = 41_000  # questions after deduplication in the paper (2.1)
_SAMPLE = 500


def table(profile: Profile, *, mirror: str | None = None, root: Path = Path()) -> str:
    """The estimate of `profile` as text: where the prompts come from, then a row per stage and a total.

    Raises :class:`UserError` when the profile names no model roles.
    """
    asked = roles.models(roles.load(profile.roles, profile.prices))
    if "teacher" not in asked:
        raise UserError(f"profile '{profile.name}': its roles call no model, so there is no bill; try PROFILE=paper.")
    questions, pool, origin = _questions(profile, mirror, root)
    size = int(profile.notebooks.get("04_selection", {}).get("size", 1000))
    stages = bill.method_stages(questions, pool=pool, selected=size, traces=_traces(mirror))
    bills = bill.estimate([stage for stage in stages if stage.role in asked], profile.prices, asked)
    return f"prompts: {len(questions)} of {pool:,} questions, {origin}\n{bill.table(bills)}"


def _questions(profile: Profile, mirror: str | None, root: Path) -> tuple[list[str], int, str]:
    kept = root / study.BUILD / profile.name / "02_decontamination" / "kept.jsonl"
    if kept.exists():
        texts = [question.text for question in read_records(kept, Question)]
        return _sample(texts), len(texts), "from the finished decontamination stage"
    texts = []
    if mirror:
        from star1lib.collection import sources

        for name in profile.notebooks.get("01_sources", {}).get("train_sets", []):
            try:
                texts += [question.text for question in sources.load(name, Path(mirror))]
            except UserError:
                continue  # the sources stage reports what is unavailable; a bill only needs typical lengths
    if texts:
        return _sample(texts), PAPER_POOL, f"a seeded sample of the {len(texts):,} at hand; the pool is the paper's"
    return _sample([row.question for row in corpus.load().harmful]), PAPER_POOL, "the hand-written corpus as a sample"


def _sample(texts: list[str]) -> list[str]:
    return texts if len(texts) <= _SAMPLE else random.Random(0).sample(texts, _SAMPLE)


def _traces(mirror: str | None) -> list[tuple[str, str]]:
    if not mirror:
        return []
    from star1lib.collection import released

    return [(example.thinking, example.answer) for example in released.load("STAR-1", Path(mirror))[:200]]
