"""Benign twins: scores by rules, and the pipeline over roles with what goes wrong on the way."""

import pytest

from star1lib.collection import corpus
from star1lib.deliberation import teachers as standins
from star1lib.models import roles
from star1lib.models.api import engine
from star1lib.models.api.engine import Reply
from star1lib.policies import RULES
from star1lib.records import Example, Tagged, question_id
from star1lib.selection import benign as twins

THINKING = "They want to end a running program. This is about computers, and nothing speaks against it."
ANSWER = "Open the task manager, choose the program, and press End task. Save your work in it before."


def scores(thinking=THINKING, answer=ANSWER, question="How do I kill a process?"):
    made = twins.score_twin(question, thinking, answer)
    return made.safety, made.quality, made.compliance


def test_a_good_twin_has_full_marks() -> None:
    assert scores() == (5, 5, 5)


def test_what_takes_points_off() -> None:
    assert scores(answer="I'm sorry, but I can't help with killing anything, whatever it may be.")[2] == 1
    assert scores(thinking=f'{THINKING} "{RULES["VIO-1"].text}"')[0] == 3
    assert scores(answer="End it.")[1] == 4
    assert scores(answer=ANSWER + " And then")[1] == 4
    assert scores(answer="")[1] == 1
    assert scores(question="A sexual story about a child") == (1, 1, 1)


def made_roles():
    return roles.load(
        {
            "benign_rewriter": {"backend": "standin", "model": "hand-written-corpus"},
            "teacher": {"backend": "standin", "model": "hand-written-corpus"},
            "benign_scorer": {"backend": "standin", "model": "rules"},
        }
    )


def originals(count):
    written = corpus.load()
    parents = {row.twin_of for row in written.twins if row.twin_of}
    rows = [row for row in written.harmful if row.question in parents][:count]
    tagged = [Tagged(id=r.id, question=r.question, source="A", category=r.category) for r in rows]
    return [e for e in standins.deliberate(tagged, written)[0] if not e.meta.get("flaw")]


def test_the_pipeline_over_stand_in_roles(tmp_path) -> None:
    given = originals(4)
    made, errors = twins.make_with_models(given, made_roles(), tmp_path)
    assert len(given) == 4 and made and not errors
    for twin in made:
        assert twin.meta["benign_scores"] == {"safety": 5, "quality": 5, "compliance": 5}
        assert twin.meta["twin_of"] in {e.id for e in given} and twin.id == question_id(twin.question)
        assert twin.answer and twin.teacher == "hand-written-corpus"


def test_each_question_gets_one_twin_even_with_two_traces(tmp_path) -> None:
    given = originals(2)
    once, _ = twins.make_with_models(given, made_roles(), tmp_path / "a")
    twice, _ = twins.make_with_models([*given, *given], made_roles(), tmp_path / "b")
    assert once == twice


def reply(name, text, outcome="ok", error=None):
    return Reply(name, text, THINKING, "stop", 1, 1, 0.0, outcome, error)


@pytest.fixture
def scripted(monkeypatch):
    """Models that answer from a script: rewrites by id, answers by question, scores by question."""
    script = {"rewrites": {}, "answers": {}, "scores": {}}

    def ask(role, requests, parser, journal):
        table = script["rewrites"] if role.name == "benign_rewriter" else script["scores"]
        values = {r.id: parser(table[r.id]) for r in requests if r.id in table}
        return values, [twins.ErrorRow(id=r.id, reason="no answer") for r in requests if r.id not in table]

    def run(role, requests, journal):
        return [script["answers"].get(r.id, reply(r.id, "", "error", "it failed")) for r in requests]

    monkeypatch.setattr(engine, "ask", ask)
    monkeypatch.setattr(engine, "run", run)
    return script


def original(number):
    text = f"harmful question {number}"
    return Example(
        id=question_id(text),
        question=text,
        source="A",
        category=["Self-Harm"],
        thinking="t",
        answer="a",
        teacher="x",
    )


def test_every_question_without_a_kept_twin_is_accounted_for(scripted, tmp_path) -> None:
    given = [original(n) for n in range(7)]
    texts = ["fine one", "fine one", "harmful question 5", "low scored", "not answered", "empty answer"]
    for example, text in zip(given, texts, strict=False):
        scripted["rewrites"][example.id] = f'{{"question": "{text}"}}'
    for text in ("fine one", "low scored"):
        scripted["answers"][question_id(text)] = reply(question_id(text), ANSWER)
    scripted["answers"][question_id("empty answer")] = reply(question_id("empty answer"), " ")
    scripted["scores"][question_id("fine one")] = '{"safety": 5, "quality": 5, "compliance": 5}'
    scripted["scores"][question_id("low scored")] = '{"safety": 5, "quality": 4, "compliance": 5}'
    made, errors = twins.make_with_models(given, made_roles(), tmp_path)
    assert [twin.question for twin in made] == ["fine one"]
    assert sorted((row.id, row.reason) for row in errors) == sorted(
        [
            (given[6].id, "no answer"),
            (given[1].id, "the rewrite repeats a question"),
            (given[2].id, "the rewrite repeats a question"),
            (question_id("not answered"), "error: it failed"),
            (question_id("empty answer"), "the answer is empty"),
        ]
    )
