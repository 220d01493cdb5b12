"""Released rows: literals are read and never run, every field is checked and named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star1lib.collection import released as published
from star1lib.collection import sources
from star1lib.errors import UserError
from star1lib.policies import CATEGORIES, OTHER
from star1lib.records import Question, Scores, question_id

MARKS = {
    "Content_Safety_Compliance": 10,
    "Relevancy_and_No_Redundant_Content": 9,
    "Accuracy_of_Thinking_Process": 8,
}


def question(**changes):
    meta = {
        "id": "68",
        "response": "<think>\nI think.\n</think>\nI can't help.",
        "category": ["Self-Harm"],
        "score": MARKS,
        "source": "ALERT",
    }
    meta = {name: value for name, value in {**meta, **changes}.items() if value is not ...}
    return Question(id=question_id("Is it worth it?"), text="Is it worth it?", source="STAR-1", meta=meta)


def test_a_released_row() -> None:
    example = published.example_of(question(), "row 1")
    assert (example.thinking, example.answer) == ("I think.", "I can't help.")
    assert example.category == ["Self-Harm"] and example.source == "ALERT" and example.teacher == "DeepSeek-R1"
    assert example.score == Scores(compliance=10, relevancy=9, accuracy=8)
    assert example.meta == {"released_id": "68"} and example.id == question().id


@pytest.mark.parametrize("written", [str, json.dumps])
def test_fields_written_as_text_read_the_same(written) -> None:
    text = published.example_of(
        question(category=written(["Self-Harm", "Sexual / Adult"]), score=written(MARKS)), "row 1"
    )
    assert text.category == ["Self-Harm", "Sexual / Adult"]
    assert text.score == Scores(compliance=10, relevancy=9, accuracy=8)


@pytest.mark.parametrize("name", [*CATEGORIES, OTHER])
def test_category_names_whatever_case_and_spaces(name) -> None:
    assert published.category_name(name.upper().replace(" / ", "/")) == name
    assert published.example_of(question(category=name), "row 1").category == [name]


def test_without_category_and_score() -> None:
    example = published.example_of(question(category=..., score=...), "row 1")
    assert example.category == [OTHER] and example.score is None


def test_benign_scores_go_to_meta() -> None:
    example = published.example_of(question(score={"safety": 5, "quality": 5, "compliance": 4}), "row 1")
    assert example.score is None
    assert example.meta["benign_scores"] == {"safety": 5, "quality": 5, "compliance": 4}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"response": ...}, "response"),
        ({"response": "  "}, "response"),
        ({"response": 3}, "response"),
        ({"response": "<think>never closed"}, "response"),
        ({"category": []}, "category"),
        ({"category": "['Self-Harm'"}, "category"),
        ({"category": ["Weather"]}, "category"),
        ({"category": [3]}, "category"),
        ({"category": "__import__('os').getcwd()"}, "category"),
        ({"score": "print(1)"}, "score"),
        ({"score": [10, 10, 10]}, "score"),
        ({"score": {"Content_Safety_Compliance": 10}}, "score"),
        ({"score": {**MARKS, "Accuracy_of_Thinking_Process": 11}}, "Accuracy"),
        ({"score": {**MARKS, "Accuracy_of_Thinking_Process": 9.5}}, "Accuracy"),
        ({"score": {**MARKS, "Accuracy_of_Thinking_Process": True}}, "Accuracy"),
        ({"score": {**MARKS, "Accuracy_of_Thinking_Process": "10"}}, "Accuracy"),
        ({"score": {**MARKS, "Accuracy_of_Thinking_Process": float("nan")}}, "score"),
        ({"score": {"safety": 6, "quality": 5, "compliance": 5}}, "safety"),
    ],
)
@pytest.mark.attack("bad rows")
def test_a_bad_field_is_named_with_its_row(changes, field) -> None:
    with pytest.raises(UserError, match=rf"row 7.*{field}"):
        published.example_of(question(**changes), "row 7")


@pytest.mark.attack("bad rows")
def test_text_of_a_model_is_never_run(tmp_path) -> None:
    trap = tmp_path / "trap"
    for text in (f"open({str(trap)!r}, 'w')", f"[x for x in [open({str(trap)!r}, 'w')]]"):
        with pytest.raises(UserError):
            published.example_of(question(category=text), "row 1")
        with pytest.raises(UserError):
            published.example_of(question(score=text), "row 1")
    assert not trap.exists()


@given(st.text(max_size=60) | st.lists(st.text(max_size=8), max_size=3) | st.integers() | st.none())
@settings(max_examples=100, deadline=None)
@pytest.mark.attack("bad rows")
def test_any_value_is_a_value_or_a_user_error(value) -> None:
    for changes in ({"category": value}, {"score": value}):
        try:
            example = published.example_of(question(**changes), "row 1")
        except UserError:
            continue
        assert set(example.category) <= {*CATEGORIES, OTHER}


def test_load_reads_through_sources(monkeypatch) -> None:
    monkeypatch.setattr(sources, "load", lambda name, mirror: [question(), question(category=["Weather"])])
    with pytest.raises(UserError, match="STAR-1, row 2"):
        published.load("STAR-1")
    with pytest.raises(UserError, match="STAR-2"):
        published.load("STAR-2")


def test_safechain_rows_that_never_end_are_left_out(monkeypatch, caplog) -> None:
    rows = [question(category=..., score=...), question(response="<think>\non and on")]
    monkeypatch.setattr(sources, "load", lambda name, mirror: rows)
    examples = published.load("SafeChain")
    assert len(examples) == 1 and examples[0].category == [OTHER] and examples[0].score is None
    assert examples[0].teacher == "DeepSeek-R1-Distill-Llama-70B" and "1 rows left out" in caplog.text


def test_the_published_thousand(mirror) -> None:
    examples = published.load("STAR-1", mirror)
    assert len(examples) == 1000 and all(e.thinking and e.score and e.score.all_ten() for e in examples)
    assert {name for e in examples for name in e.category} == set(CATEGORIES)
    assert len({e.source for e in examples}) == 18
