"""Measuring variants on benchmarks: one call per notebook, one cache for the whole study.

Each variant is generated for once per benchmark and settings; a second stage that asks for the same
variant and benchmark reads what the first one wrote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star1lib.evaluation.judges import Judges
from star1lib.evaluation.run import Subject, evaluate
from star1lib.evaluation.settings import protocol
from star1lib.files import read_records, write_stage
from star1lib.records import Example, ItemResult, Question
from star1lib.training.variants import Variant

ITEMS = "items.jsonl"


def measure(
    variants: Sequence[Variant],
    benchmarks: Sequence[str],
    *,
    cache: str | Path,
    limits: Mapping[str, int],
    generation: Mapping[str, Any],
    seed: int,
    roles: Mapping[str, Any] | None = None,
    mirror: str | None = None,
    twins: Sequence[Example] = (),
) -> list[ItemResult]:
    """Generate and judge every variant on every benchmark; items in the order of variants, then benchmarks.

    `limits` caps a benchmark's questions (a seeded sample); `generation` names a protocol and its
    settings; `twins` are the held-out benign twins, the items of the benchmark `Twins`;
    `roles` are the profile's, for judges that are models.
    """
    extra = {"Twins": [Question.make(twin.question, twin.source, twin_of=twin.meta.get("twin_of")) for twin in twins]}
    asked = Judges(roles, Path(cache) / "judges")
    items: list[ItemResult] = []
    for variant in variants:
        items += evaluate(
            Subject(variant=variant.name, model=variant.checkpoint, thinking=variant.thinking),
            list(benchmarks),
            folder=Path(cache),
            protocol=protocol(**generation),
            limits=dict(limits),
            seed=seed,
            mirror=Path(mirror) if mirror else None,
            judges=asked,
            extra=extra,
        )
    return items


def write(folder: str | Path, items: Sequence[ItemResult]) -> None:
    """Write the judged items of a stage, manifest last; no completion is among them."""
    write_stage(Path(folder), {ITEMS: items}, items=len(items))


def read(*folders: str | Path) -> list[ItemResult]:
    """The judged items that the given stages wrote, each once, in order."""
    items = [item for folder in folders for item in read_records(Path(folder) / ITEMS, ItemResult)]
    return list({(i.variant, i.benchmark, i.item_id, i.metric, i.judge): i for i in items}.values())


def crossed(items: Sequence[ItemResult]) -> list[dict[str, Any]]:
    """Where the judges of refusal and of harm meet on the same answers: a row per variant and benchmark, counts.

    "refused, harmful" and "complied, safe" are the answers to read: there one of the two judges may be wrong, or a
    model complies without being able to help.
    """
    answers: dict[tuple[str, str], dict[str, dict[str, bool | None]]] = {}
    for item in items:
        if item.metric in ("safe", "refused"):
            group = answers.setdefault((item.variant, item.benchmark), {})
            group.setdefault(item.item_id, {})[item.metric] = item.value
    rows = []
    for (variant, benchmark), group in answers.items():
        pairs = Counter((labels.get("refused"), labels.get("safe")) for labels in group.values())
        counts = {
            f"{'refused' if refused else 'complied'}, {'safe' if safe else 'harmful'}": pairs[refused, safe]
            for refused in (True, False)
            for safe in (True, False)
        }
        undecided = len(group) - sum(counts.values())
        rows.append({"variant": variant, "benchmark": benchmark, "n": len(group), **counts, "undecided": undecided})
    return rows
