"""Deliberation and selection as stages, on the corpus: what they write, what their tables say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from faultserver import FaultServer, completion

from star1lib import files as io
from star1lib.collection import corpus, decontamination
from star1lib.deliberation import prompts
from star1lib.deliberation import stage as deliberation
from star1lib.errors import UserError
from star1lib.records import Example, Question
from star1lib.selection import stage as selection
from star1lib.selection.audit import CRITERIA


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus through both stages."""
    root = tmp_path_factory.mktemp("stages")
    kept = {question.id: question for question in corpus.load().questions()}
    io.write_jsonl(root / "kept" / "kept.jsonl", kept.values())
    made = deliberation.deliberate(root / "kept", out=root)
    deliberation.write(made, root / "03")
    return root


def choose(folder: Path) -> selection.SelectionResult:
    return selection.select_folder(folder, size=40, medium_low=3.0, out=folder.parent)


def test_every_question_is_answered_or_listed(folders: Path) -> None:
    kept = io.read_records(folders / "kept" / "kept.jsonl", Question)
    examples = io.read_records(folders / "03" / "examples.jsonl", Example)
    unanswered = {row["id"] for row in io.read_jsonl(folders / "03" / "unanswered.jsonl")}
    assert {question.id for question in kept} == {example.id for example in examples} | unanswered
    assert any(example.meta.get("flaw") for example in examples)


def test_audits_say_what_held_out_halves_give(folders: Path) -> None:
    made = deliberation.deliberate(folders / "kept", out=folders)
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
    """Whatever reaches training goes through the decontamination of the pool; what leaves is listed."""
    before = choose(folders / "03")
    row, twin = before.chosen.kept[0], before.benign[0]
    tests = [Question.make(example.question.upper(), "test") for example in (row, twin)]
    decontamination.write(decontamination.decontaminate([], tests), folders / "02")
    after = selection.select_folder(folders / "03", size=40, medium_low=3.0, out=folders, decontaminated=folders / "02")
    assert {row.id, twin.id} <= {removal.id for removal in after.overlaps}
    assert {removal.partner_text for removal in after.overlaps} == {test.text for test in tests}
    assert not {row.id, twin.id} & {example.id for example in (*after.scored, *after.benign)}
    assert len(after.scored) < len(before.scored) and len(after.benign) < len(before.benign)


def test_both_scorers_are_audited_and_compared(folders: Path) -> None:
    chosen = choose(folders / "03")
    audited = selection.audit_table(chosen, rows=20, seed=0)
    assert {row["scorer"] for row in audited} == set(selection.offline_scorers())
    agreement = selection.agreement_table(chosen, rows=20, seed=0)
    assert [row["criterion"] for row in agreement] == list(CRITERIA)
    assert all(-1 <= row["weighted_kappa"] <= 1 for row in agreement)
    assert all(row["traces"] == 20 * 5 for row in agreement)


def test_players_that_cannot_play(folders: Path) -> None:
    with pytest.raises(UserError, match=r"roles.teacher: 'magic'"):
        deliberation.deliberate(folders / "kept", players={"teacher": "magic"}, out=folders)
    with pytest.raises(UserError, match="without released scores"):
        selection.select_folder(folders / "03", size=4, medium_low=3.0, players={"scorer": "released"}, out=folders)
    rewriter = {"benign_rewriter": {"model": "openai/m"}, "benign_scorer": {"model": "openai/m"}}
    with pytest.raises(UserError, match=r"roles.teacher: a model that rewrites"):
        selection.select_folder(folders / "03", size=4, medium_low=3.0, players=rewriter, out=folders)


def test_models_play_every_role(folders: Path, tmp_path: Path) -> None:
    """Two questions from tag to benign variant, by a server: each role's answers lie in a folder of its own."""
    asked = io.read_records(folders / "kept" / "kept.jsonl", Question)[:2]
    io.write_jsonl(tmp_path / "kept" / "kept.jsonl", asked)
    fresh = [f"What is a harmless thing number {n}?" for n in range(2)]
    full = dict.fromkeys(CRITERIA, 10)
    replies: dict[str, Any] = {}
    for question, new in zip(asked, fresh, strict=True):
        replies |= {
            prompts.classify(question.text)[-1]["content"]: {"categories": ["Self-Harm"]},
            prompts.deliberate(question.text, ["Self-Harm"])[-1]["content"]: "I decline.",
            prompts.score(question.text, ["Self-Harm"], "", "I decline.")[-1]["content"]: full,
            prompts.rewrite_benign(question.text)[-1]["content"]: {"question": new},
            prompts.answer_benign(new)[-1]["content"]: "It is this.",
            prompts.score_benign(new, "", "It is this.")[-1]["content"]: {"safety": 5, "quality": 5, "compliance": 5},
        }  # fmt: skip
    said = {
        ask: completion({"content": text if isinstance(text, str) else json.dumps(text)})
        for ask, text in replies.items()
    }
    with FaultServer(replies=said) as server:
        model = {"model": "openai-api/test/m", "base_url": server.url}
        players = dict.fromkeys(("classifier", "teacher", "scorer", "benign_rewriter", "benign_scorer"), model)
        made = deliberation.deliberate(tmp_path / "kept", players=players, out=tmp_path)
        deliberation.write(made, tmp_path / "03")
        chosen = selection.select_folder(tmp_path / "03", size=2, medium_low=3.0, players=players, out=tmp_path)
        assert len(server.calls) == len(replies) == 12
    assert [row["played_by"] for row in deliberation.roles_table(made)] == ["openai-api/test/m"] * 5
    assert [e.answer for e in made.examples] == ["I decline."] * 2 and not made.errors and not chosen.errors
    assert {e.question for e in chosen.benign} == set(fresh) and len(chosen.chosen.kept) == 2
    assert {path.parent.name for path in (tmp_path / "calls").glob("*/answers.jsonl")} == {
        "classifier", "teacher", "scorer", "benign_rewriter", "benign_teacher", "benign_scorer"
    }  # fmt: skip
    assert len(list((tmp_path / "calls").rglob("*.eval"))) == 6
