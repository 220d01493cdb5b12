"""Benign twins: scores by rules, and the pipeline over roles with what goes wrong on the way."""

import made
import pytest

from star1lib.models import calls
from star1lib.models.answers import BenignScores, read
from star1lib.models.calls import Reply
from star1lib.models.roles import Role
from star1lib.policies import RULES
from star1lib.records import question_id
from star1lib.selection import benign as twins

THINKING = "They want to end a running program. This is about computers, and nothing speaks against it."
ANSWER = "Open the task manager, choose the program, and press End task. Save your work in it before."


def scores(thinking=THINKING, answer=ANSWER, question="How do I kill a process?"):
    made = twins.score(question, thinking, answer)
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


def reply(name, text, outcome="ok", error=None):
    return Reply(name, outcome, text, THINKING, error)


@pytest.fixture
def scripted(monkeypatch):
    """Models that answer from a script: rewrites by id, answers by question, scores by question."""
    script = {"rewrites": {}, "answers": {}, "scores": {}}

    def ask(role, requests, form, folder):
        table = script["rewrites"] if role.name == "benign_rewriter" else script["scores"]
        values = {r.id: read(table[r.id], form) for r in requests if r.id in table}
        return values, [twins.ErrorRow(id=r.id, reason="no answer") for r in requests if r.id not in table]

    def run(role, requests, folder):
        return [script["answers"].get(r.id, reply(r.id, "", "error", "it failed")) for r in requests]

    monkeypatch.setattr(calls, "ask", ask)
    monkeypatch.setattr(calls, "run", run)
    return script


def test_every_question_without_a_kept_twin_is_accounted_for(scripted, tmp_path) -> None:
    given = [made.example(f"harmful question {number}") for number in range(7)]
    texts = ["fine one", "fine one", "harmful question 5", "low scored", "not answered", "empty answer"]
    for example, text in zip(given, texts, strict=False):
        scripted["rewrites"][example.id] = f'{{"question": "{text}"}}'
    for text in ("fine one", "low scored"):
        scripted["answers"][question_id(text)] = reply(question_id(text), ANSWER)
    scripted["answers"][question_id("empty answer")] = reply(question_id("empty answer"), "", "empty", "nothing")
    scripted["scores"][question_id("fine one")] = '{"safety": 5, "quality": 5, "compliance": 5}'
    scripted["scores"][question_id("low scored")] = '{"safety": 5, "quality": 4, "compliance": 5}'
    players = {name: Role(name=name, model="openai/m") for name in ("benign_rewriter", "teacher", "benign_scorer")}
    kept, errors = twins.make_with_models(given, players, tmp_path)
    assert [twin.question for twin in kept] == ["fine one"]
    assert kept[0].meta == {"variant_of": given[0].id, "benign_scores": dict.fromkeys(BenignScores.model_fields, 5)}
    assert {row.id: row.reason for row in errors} == {
        given[6].id: "no answer",
        given[1].id: "the rewrite repeats a question",
        given[2].id: "the rewrite repeats a question",
        question_id("not answered"): "error: it failed",
        question_id("empty answer"): "empty: nothing",
    }
