"""Deliberation and selection as stages, on the corpus: what they write, what their tables say."""

from __future__ import annotations

from pathlib import Path

import pytest

from star1lib import files as io
from star1lib.collection import corpus, decontamination
from star1lib.deliberation import stage as deliberation
from star1lib.errors import UserError
from star1lib.records import Example, Question
from star1lib.selection import stage as selection


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus through both stages."""
    root = tmp_path_factory.mktemp("stages")
    kept = {question.id: question for question in corpus.load().questions()}
    io.write_jsonl(root / "kept" / "kept.jsonl", kept.values())
    made = deliberation.deliberate(root / "kept", origin="corpus", out=root)
    deliberation.write(made, root / "03")
    return root


def choose(folder: Path) -> selection.SelectionResult:
    return selection.select_folder(folder, scorer="rules", size=40, medium_low=3.0, out=folder.parent)


def test_every_question_is_answered_or_listed(folders: Path) -> None:
    kept = io.read_records(folders / "kept" / "kept.jsonl", Question)
    examples = io.read_records(folders / "03" / "examples.jsonl", Example)
    unanswered = {row["id"] for row in io.read_jsonl(folders / "03" / "unanswered.jsonl")}
    assert {question.id for question in kept} == {example.id for example in examples} | unanswered
    assert any(example.meta.get("flaw") for example in examples)


def test_audits_say_what_held_out_halves_give(folders: Path) -> None:
    made = deliberation.deliberate(folders / "kept", origin="corpus", out=folders)
    rows = {(row["tagger"], row["category"]): row["f1"] for row in deliberation.tagger_table(made)}
    assert 0 < rows["zero-shot", "micro"] <= 1
    assert 0 < rows["fitted, held-out half", "micro"] <= 1
    assert {row["role"] for row in deliberation.roles_table(made)} >= {"classifier", "teacher", "scorer"}


def test_selection_keeps_the_best_trace_and_balances(folders: Path) -> None:
    chosen = choose(folders / "03")
    kept = chosen.chosen.kept
    assert len(kept) == len({example.id for example in kept}) == 40
    assert all(example.score and example.score.all_ten() and not example.meta.get("flaw") for example in kept)
    assert all(example.score and not example.score.all_ten() for example in chosen.medium)
    selection.write(chosen, folders / "04")
    io.verify_manifest(folders / "04")
    sizes = [row["size"] for row in selection.balance_table(chosen)]
    assert 40 in sizes


def test_no_row_and_no_benign_variant_comes_close_to_a_test_question(folders: Path) -> None:
    """Whatever reaches training goes through the decontamination of the pool; what leaves is listed with its partner."""
    before = choose(folders / "03")
    row, twin = before.chosen.kept[0], before.twins[0]
    tests = [Question.make(example.question.upper(), "test") for example in (row, twin)]
    decontamination.write(decontamination.decontaminate([], tests), folders / "02")
    after = selection.select_folder(
        folders / "03", scorer="rules", size=40, medium_low=3.0, out=folders, decontaminated=folders / "02"
    )
    assert {row.id, twin.id} <= {removal.id for removal in after.overlaps}
    assert {removal.partner_text for removal in after.overlaps} == {test.text for test in tests}
    assert not {row.id, twin.id} & {example.id for example in (*after.scored, *after.twins)}
    assert len(after.scored) < len(before.scored) and len(after.twins) < len(before.twins)


def test_both_scorers_are_audited_and_compared(folders: Path) -> None:
    chosen = choose(folders / "03")
    audited = selection.audit_table(chosen, rows=20, seed=0)
    assert {row["scorer"] for row in audited} == set(selection.scorers())
    agreement = selection.agreement_table(chosen, rows=20, seed=0)
    assert [row["criterion"] for row in agreement] == list(selection.CRITERIA)
    assert all(-1 <= row["weighted_kappa"] <= 1 for row in agreement)
    assert all(row["traces"] == 20 * 5 for row in agreement)


def test_unknown_origin_and_scorer(folders: Path) -> None:
    with pytest.raises(UserError, match="origin 'magic'"):
        deliberation.deliberate(folders / "kept", origin="magic", out=folders)
    with pytest.raises(UserError, match="scorer 'magic'"):
        selection.select_folder(folders / "03", scorer="magic", size=4, medium_low=3.0, out=folders)
    with pytest.raises(UserError, match="without published scores"):
        selection.select_folder(folders / "03", scorer="published", size=4, medium_low=3.0, out=folders)
