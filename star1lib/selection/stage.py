"""Scoring and selection as a stage (paper 2.3): scores in, the selected and the medium-scored rows out.

The method itself is in :mod:`star1lib.selection.scorers` (the transparent scorer), the scorer role, and
:mod:`star1lib.selection.balance` (full marks, then balance). This module runs them on a folder and keeps what
was dropped with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from star1lib.collection import corpus, decontamination
from star1lib.errors import UserError
from star1lib.files import read_records, write_stage
from star1lib.models import embed, roles
from star1lib.models.answers import ErrorRow
from star1lib.models.roles import Role
from star1lib.records import Example, Removal, Scores, subset
from star1lib.selection import audit, balance, benign, scorers
from star1lib.selection.audit import CRITERIA
from star1lib.selection.semantic import SemanticScorer

_SIZES = (50, 100, 250, 500, 1000, 2500, 5000, 10_000, 41_000)


@dataclass(frozen=True)
class SelectionResult:
    """Scored examples, selection, medium-scored rows, benign variants, who scored, and what overlaps a test."""

    scored: list[Example]
    chosen: balance.Selection
    medium: list[Example]
    benign: list[Example]
    errors: list[ErrorRow]
    scorer: str
    overlaps: list[Removal]


def select_folder(
    folder: str | Path,
    *,
    size: int,
    medium_low: float,
    players: Mapping[str, Any] | None = None,
    out: str | Path,
    decontaminated: str | Path | None = None,
) -> SelectionResult:
    """Score the examples of the deliberation stage and select `size` of them.

    `players` says who plays the scorer and who makes the benign variants (:func:`star1lib.models.roles.load`): rules,
    the scores that came with released rows, or models. Medium-scored rows have a mean of at least `medium_low` and
    not full marks (4.1). Rows and benign variants that come too close to a test question of the stage's folder
    `decontaminated` are taken out, wherever they come from: released rows and variants were never in the pool.
    """
    folder = Path(folder)
    known = roles.load(players or {})
    examples, overlaps = _apart(read_records(folder / "examples.jsonl", Example), decontaminated)
    calls = Path(out) / "calls"
    scorer = known["scorer"]
    errors: list[ErrorRow] = []
    scores: list[Scores | None] = [example.score for example in examples]
    if isinstance(scorer, Role):
        scores, errors = scorers.score_with_model(examples, scorer, calls / "scorer")
    elif scorer != roles.RELEASED:
        scores = [scorers.score(example) for example in examples]
    elif None in scores:
        raise UserError(f"{folder / 'examples.jsonl'}: rows without released scores; set roles.scorer to offline.")
    pairs = zip(examples, scores, strict=True)
    scored = [example.model_copy(update={"score": score}) for example, score in pairs if score is not None]
    chosen = balance.select(_one_per_question(scored), size)
    asked = roles.models(known)
    if "benign_rewriter" in asked:
        if lacking := {"teacher", "benign_scorer"} - set(asked):
            raise UserError(f"roles.{min(lacking)}: a model that rewrites needs a model here too; name one.")
        # Made of what was selected (4.3), not of the whole pool.
        variants, failed = benign.make_with_models(chosen.kept, asked, calls)
        errors += failed
    else:
        variants = benign.hand_written(corpus.load())
    variants, near = _apart(variants, decontaminated)
    medium = [example for example in balance.scored_between(scored, medium_low, 10) if not _full(example)]
    made_by = getattr(scorer, "model", str(scorer))
    return SelectionResult(scored, chosen, medium, variants, errors, made_by, [*overlaps, *near])


def _apart(examples: list[Example], folder: str | Path | None) -> tuple[list[Example], list[Removal]]:
    return decontamination.against_tests_of(folder, examples) if folder else (examples, [])


def _full(example: Example) -> bool:
    return example.score is not None and example.score.all_ten()


def _one_per_question(scored: Sequence[Example]) -> list[Example]:
    """The best-scored trace of each question, in the order of first appearance."""
    traces: dict[str, list[Example]] = {}
    for example in scored:
        traces.setdefault(example.id, []).append(example)
    return [max(some, key=balance.mean_score) for some in traces.values()]


def accepted_and_rejected(result: SelectionResult) -> list[tuple[Example, dict[str, str]]]:
    """One selected row, and the row with the lowest scores, each with the rule scorer's reasons per criterion."""
    low = sorted((example for example in result.scored if not _full(example)), key=balance.mean_score)
    return [(example, scorers.judge(example).reasons) for example in (*result.chosen.kept[:1], *low[:1])]


def write(result: SelectionResult, folder: str | Path) -> None:
    """Write scored, selected, medium and dropped rows and the benign variants, manifest last."""
    files: dict[str, Sequence[Any]] = {
        "scored": result.scored,
        "selected": result.chosen.kept,
        "medium": result.medium,
        "benign_variants": result.benign,
        "dropped": [asdict(dropped) for dropped in result.chosen.dropped],
        "errors": result.errors,
        "overlaps": result.overlaps,
    }
    counts = {name: len(records) for name, records in files.items()}
    named: dict[str, Any] = {f"{name}.jsonl": records for name, records in files.items()}
    named["counts.json"] = {"scorer": result.scorer, **counts}
    write_stage(Path(folder), named, scorer=result.scorer, counts=counts)


def scores_table(result: SelectionResult) -> list[dict[str, Any]]:
    """How often each score was given: criterion, score, kind (clean or with a known flaw), count."""
    counts: Counter[tuple[str, int, str]] = Counter()
    for example in result.scored:
        kind = "known flaw" if example.meta.get("flaw") else "clean"
        for criterion in CRITERIA:
            counts[criterion, getattr(example.score, criterion), kind] += 1
    return [
        {"criterion": criterion, "score": score, "kind": kind, "count": count}
        for (criterion, score, kind), count in sorted(counts.items())
    ]


def selection_table(result: SelectionResult) -> list[dict[str, Any]]:
    """Rows with full marks and selected rows per category; a row with two categories counts in both."""
    passed = Counter(name for example in balance.high_quality(result.scored) for name in example.category)
    kept = Counter(name for example in result.chosen.kept for name in example.category)
    return [
        {"category": name, "pool": passed[name], "selected": kept[name]}
        for name in sorted(passed, key=lambda name: -passed[name])
    ]


def offline_scorers() -> dict[str, audit.Scorer]:
    """The offline scorers that the audit compares, by name: the rules, and the rules with sentence embeddings."""
    return {"rules": scorers.score, "rules and embeddings": SemanticScorer(embed.encode)}


def audit_table(result: SelectionResult, *, rows: int, seed: int) -> list[dict[str, Any]]:
    """What each offline scorer sees of flaws put into full-marks traces: AUC per flaw, the scorer in front."""
    good = subset(balance.high_quality(result.scored), rows, seed)
    if len(good) < 2:
        return []
    return [
        {"scorer": name, **row}
        for name, scorer in offline_scorers().items()
        for row in audit.scorer_table(good, scorer, seed=seed)
    ]


def agreement_table(result: SelectionResult, *, rows: int, seed: int) -> list[dict[str, Any]]:
    """Weighted kappa of the two offline scorers on the same traces, clean ones and ones with a flaw put in."""
    clean = subset(balance.high_quality(result.scored), rows, seed)
    traces = [*clean, *(audit.inject(example, flaw, seed) for flaw in audit.FLAWS for example in clean)]
    if not traces:
        return []
    first, second = (list(map(scorer, traces)) for scorer in offline_scorers().values())
    return audit.scorer_agreement(first, second)


def balance_table(result: SelectionResult) -> list[dict[str, Any]]:
    """Entropy over sources and categories at several target sizes, from the whole pool down."""
    pool = [example.model_dump(include={"source", "category"}) for example in balance.high_quality(result.scored)]
    selected = len(result.chosen.kept)
    sizes = [size for size in (*_SIZES, selected) if 0 < size <= len(pool)]
    return [
        {**row, "which": "selected" if row["size"] == selected else "target size"}
        for row in balance.balance_curve(pool, sizes)
    ]
