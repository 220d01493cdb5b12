"""The offline stand-ins: they name themselves, look up what is written, and speak the models' formats."""

import json

import pytest

from star1lib.collection import corpus
from star1lib.deliberation import prompts
from star1lib.deliberation import teachers as standins
from star1lib.models import roles
from star1lib.models.api import parsing
from star1lib.models.api.engine import Request
from star1lib.records import Tagged
from star1lib.selection import benign
from star1lib.selection import scorers as scoring


@pytest.fixture(scope="module")
def written():
    return corpus.load()


def tagged(row):
    return Tagged(id=row.id, question=row.question, source="A", category=row.category)


def test_each_role_of_the_method_has_a_stand_in_with_a_label() -> None:
    assert set(standins.STANDIN) == {"classifier", "teacher", "scorer", "benign_rewriter", "benign_scorer"}
    assert standins.label("teacher") == "hand-written corpus (stands in for DeepSeek-R1)"


def test_deliberate_looks_up_traces_and_lists_what_is_missing(written) -> None:
    rows = [next(row for row in written.harmful if row.flawed), next(row for row in written.harmful if not row.flawed)]
    unknown = Tagged(id="0" * 16, question="Who?", source="A", category=["Other"])
    examples, missing = standins.deliberate([tagged(rows[0]), unknown, tagged(rows[1])], written)
    assert missing == [unknown.id]
    assert [e.id for e in examples] == [rows[0].id, rows[0].id, rows[1].id]
    assert [e.meta.get("flaw") for e in examples] == [None, rows[0].flawed.flaw, None]
    assert examples[0].thinking == rows[0].thinking and examples[1].thinking == rows[0].flawed.thinking
    assert examples[0].meta["rules"] == rows[0].rules and examples[0].meta["action"] == rows[0].action
    assert {e.teacher for e in examples} == {standins.label("teacher")}


def test_the_category_of_an_example_is_the_taggers(written) -> None:
    row = written.harmful[0]
    other = tagged(row).model_copy(update={"category": ["Other"]})
    assert standins.deliberate([other], written)[0][0].category == ["Other"]


def test_hand_written_variants_are_scored_and_only_the_best_kept(written) -> None:
    twins = benign.hand_written(written)
    assert len(twins) >= 0.9 * len(written.twins) and len(twins) >= 64
    harmful = {row.id for row in written.harmful}
    assert all(twin.meta["twin_of"] in harmful for twin in twins if twin.meta["twin_of"])
    assert not harmful & {twin.id for twin in twins}


def test_the_corpus_answers_a_teachers_prompt(written) -> None:
    row = written.harmful[0]
    text = standins.corpus_request(Request("x", prompts.deliberate(row.question, row.category)))
    assert text == f"<think>\n{row.thinking}\n</think>\n\n{row.answer}"


def test_the_corpus_rewrites_and_answers_twins(written) -> None:
    twin = next(row for row in written.twins if row.twin_of)
    request = Request("x", prompts.rewrite_benign(twin.twin_of), schema=parsing.REWRITE_SCHEMA)
    question = parsing.parse_rewrite(standins.corpus_request(request))
    assert question in {row.question for row in written.twins if row.twin_of == twin.twin_of}
    assert "</think>" in standins.corpus_request(Request("x", prompts.answer_benign(question)))


def test_what_the_corpus_does_not_know_is_an_error_row(tmp_path) -> None:
    role = roles.load({"teacher": {"backend": "standin", "model": "hand-written-corpus"}})["teacher"]
    row = Tagged(id="a", question="What is nowhere written?", source="A", category=["Self-Harm"])
    examples, errors = standins.deliberate_with_model([row], role, tmp_path / "journal.jsonl")
    assert examples == [] and [error.id for error in errors] == ["a"]


def test_the_teacher_role_answers_through_the_engine(written, tmp_path) -> None:
    role = roles.load({"teacher": {"backend": "standin", "model": "hand-written-corpus"}})["teacher"]
    rows = written.harmful[:3]
    examples, errors = standins.deliberate_with_model([tagged(row) for row in rows], role, tmp_path / "journal.jsonl")
    assert not errors
    assert [(e.thinking, e.answer) for e in examples] == [(row.thinking, row.answer) for row in rows]
    assert {e.teacher for e in examples} == {"hand-written-corpus"}


def test_rules_score_what_the_prompt_shows(written) -> None:
    row = written.harmful[0]
    example = standins.deliberate([tagged(row)], written)[0][0]
    messages = prompts.score(row.question, row.category, row.thinking, row.answer)
    text = benign.rules_request(Request("x", messages, schema=parsing.SCORES_SCHEMA))
    assert parsing.parse_scores(text) == scoring.score(example)


def test_rules_score_a_twin(written) -> None:
    row = written.twins[0]
    messages = prompts.score_benign(row.question, row.thinking, row.answer)
    text = benign.rules_request(Request("x", messages, schema=parsing.BENIGN_SCORES_SCHEMA))
    assert set(json.loads(text)) == {"safety", "quality", "compliance"}
    assert parsing.parse_benign_scores(text).compliance == 5
