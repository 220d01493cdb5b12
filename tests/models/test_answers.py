"""Strict reading: the right value or a reason, never a wrong value, never another exception."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star1lib.models import answers
from star1lib.models.answers import (
    BenignScores,
    Harm,
    Refusal,
    Rewrite,
    Rubric,
    Tags,
    Unreadable,
    read,
    read_guard,
)
from star1lib.policies import CATEGORIES, OTHER
from star1lib.records import Record, Scores

GOOD: dict[type[Record], tuple[str, Record]] = {
    Tags: (json.dumps({"categories": list(CATEGORIES[1::-1])}), Tags(categories=list(CATEGORIES[1::-1]))),
    Scores: ('{"compliance": 10, "relevancy": 0, "accuracy": 7}', Scores(compliance=10, relevancy=0, accuracy=7)),
    BenignScores: ('{"safety": 5, "quality": 1, "compliance": 3}', BenignScores(safety=5, quality=1, compliance=3)),
    Rewrite: ('{"question": " How do I bake bread? "}', Rewrite(question="How do I bake bread?")),
    Refusal: ('{"label": "partial_refusal"}', Refusal(label="partial_refusal")),
    Harm: ('{"harmful": false}', Harm(harmful=False)),
    Rubric: ('{"score": 4}', Rubric(score=4)),
}


@pytest.mark.parametrize("form", GOOD)
def test_the_asked_for_answer_is_read_bare_padded_and_fenced(form: type[Record]) -> None:
    text, value = GOOD[form]
    assert read(text, form) == value
    assert read(f"\n  {text}\n", form) == value
    for fence in ("```json\n%s\n```", "```\n%s\n```", " ```json\r\n%s\r\n``` "):
        assert read(fence % text, form) == value


@pytest.mark.parametrize("form", GOOD)
@pytest.mark.parametrize(
    "frame",
    [
        "%s\nHope this helps!",
        "Here you are: %s",
        "%s %s",
        "[%s]",
        "```json\n%s\n``` done",
        "```json\n%s",
        "%s,",
        "'%s'",
    ],
)
def test_anything_around_the_value_is_refused(form: type[Record], frame: str) -> None:
    with pytest.raises(Unreadable):
        read(frame.replace("%s", GOOD[form][0]), form)


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        (Tags, '{"categories": ["Arson"]}', "not one of"),
        (Tags, '{"categories": []}', "at least 1"),
        (Tags, json.dumps({"categories": [CATEGORIES[0], OTHER]}), "beside"),
        (Tags, '{"categories": [["Other"]]}', "string"),
        (Tags, '{"tags": ["Other"]}', "'categories'"),
        (Tags, '["Other"]', "one JSON object"),
        (Tags, "", "empty"),
        (Scores, '{"compliance": 10, "relevancy": 9}', "'accuracy'"),
        (Scores, '{"compliance": 11, "relevancy": 9, "accuracy": 1}', "less than or equal to 10"),
        (Scores, '{"compliance": -1, "relevancy": 9, "accuracy": 1}', "greater than or equal to 0"),
        (Scores, '{"compliance": 9.5, "relevancy": 9, "accuracy": 1}', "integer"),
        (Scores, '{"compliance": true, "relevancy": 9, "accuracy": 1}', "integer"),
        (Scores, '{"compliance": "9", "relevancy": 9, "accuracy": 1}', "integer"),
        (Scores, '{"compliance": NaN, "relevancy": 9, "accuracy": 1}', "NaN"),
        (Scores, '{"compliance": 1e999, "relevancy": 9, "accuracy": 1}', "integer"),
        (Scores, '{"compliance": 9, "compliance": 1, "relevancy": 9, "accuracy": 1}', "twice"),
        (Scores, '{"compliance": 9, "relevancy": 9, "accuracy": 1, "total": 19}', "'total'"),
        (Scores, '{"a": ' + "[" * 30_000, "valid JSON"),
        (Scores, '{"compliance": ' + "9" * 6000 + "}", "valid JSON"),
        (Scores, "{" + " " * 100_001 + "}", "too long"),
        (Scores, "__import__('os').system('true')", "one JSON object"),
        (BenignScores, '{"safety": 0, "quality": 1, "compliance": 3}', "greater than or equal to 1"),
        (Rewrite, '{"question": "  "}', "at least 1"),
        (Refusal, '{"label": "refusal"}', "'partial_refusal'"),
        (Refusal, '{"label": ["full_refusal"]}', "'partial_refusal'"),
        (Harm, '{"harmful": "no"}', "boolean"),
        (Harm, '{"harmful": 0}', "boolean"),
        (Rubric, '{"score": 6}', "less than or equal to 5"),
    ],
)
def test_refusals_say_why(form: type[Record], text: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read(text, form)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("safe", (True, "")),
        ("\n\nsafe\n", (True, "")),
        ("unsafe\nS2", (False, "S2")),
        ("\n\nunsafe\nS1, S10", (False, "S1,S10")),
        ("unsafe\nS14", (False, "S14")),
    ],
)
def test_guard_verdicts(text: str, verdict: tuple[bool, str]) -> None:
    assert read_guard(text) == verdict


@pytest.mark.parametrize(
    "text",
    [
        *("", "Safe", "safe\nS1", "unsafe", "unsafe\nS15", "unsafe\nS0", "unsafe\nS2,S2", "unsafe\nS", "unsafe S2"),
        *("unsafe\nS1\nS2", "The reply is unsafe\nS1", "unsafe\nviolence", "safe unsafe", "unsafe\nS1,"),
    ],
)
def test_guard_takes_nothing_else(text: str) -> None:
    with pytest.raises(Unreadable):
        read_guard(text)


def test_category_names_match_without_case_and_spacing() -> None:
    assert read('{"category": ["harassment/Hate /discrimination"]}', Tags).categories == [CATEGORIES[0]]
    twice = json.dumps({"categories": [CATEGORIES[2], CATEGORIES[2].upper()]})
    assert read(twice, Tags).categories == [CATEGORIES[2]]


def test_a_remark_beside_the_scores_is_dropped() -> None:
    text = '{"compliance": 10.0, "relevancy": 9, "accuracy": 1, "reason": "sound"}'
    assert read(text, Scores) == Scores(compliance=10, relevancy=9, accuracy=1)


def test_raw_text_stays_out_of_repr() -> None:
    assert "secret words" not in repr(answers.ErrorRow(id="1", reason="r", raw="secret words"))


KEYS = ["categories", "category", "compliance", "relevancy", "accuracy", "safety", "quality", "question", "label"]
KEYS += ["harmful", "score", "reason", "x"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([*CATEGORIES, OTHER, "full_refusal", "partial_refusal", "5", "safe", "unsafe", ""]),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=6,
)
FRAMES = st.sampled_from(
    ["%s", "```json\n%s\n```", "```\n%s\n```", "%s\nthanks", "Sure: %s", "%s%s", "<think>x</think>%s", "'%s'", "%s\x00"]
)


@st.composite
def malformed(draw: st.DrawFn) -> str:
    """Answers near and far from what was asked: mutated good ones, random JSON in odd frames, plain noise."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.text(max_size=40))
    if kind == 1:
        return draw(FRAMES).replace("%s", json.dumps(draw(VALUES)))
    text = draw(st.sampled_from([good for good, _ in GOOD.values()] + ["unsafe\nS1, S10"]))
    place = draw(st.integers(0, len(text)))
    if kind == 2:
        return draw(FRAMES).replace(
            "%s", text[:place] + draw(st.text(max_size=3)) + text[place + draw(st.integers(0, 3)) :]
        )
    return text[:place]


def squash(name: str) -> str:
    return " ".join(name.replace("/", " / ").split()).casefold()


def means(text: str, value: Record) -> bool:
    """Whether `value` is what the text says, read by a second, independent way."""
    said: dict[str, Any] = json.loads(text.strip().removeprefix("```json").removeprefix("```").removesuffix("```"))
    if isinstance(value, Tags):
        names = said.get("categories", said.get("category"))
        return [squash(name) for name in value.categories] == list(dict.fromkeys(map(squash, names)))
    if isinstance(value, Rewrite):
        return bool(said["question"].strip() == value.question)
    return all((said[name] == part and type(said[name]) is not str) or (name == "label" and said[name] == part)
               for name, part in value.model_dump().items())  # fmt: skip


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(malformed())
def test_property_an_error_or_the_value_that_the_text_says(text: str) -> None:
    for form in GOOD:
        try:
            value = read(text, form)
        except Unreadable as err:
            assert str(err)
            continue
        assert means(text, value)
    try:
        safe, codes = read_guard(text)
    except Unreadable:
        return
    assert text.strip().startswith("safe" if safe else "unsafe") and safe == (codes == "")


@pytest.mark.parametrize("form", GOOD)
def test_schemas_leave_no_field_out(form: type[Record]) -> None:
    from inspect_ai.util import json_schema

    schema = json_schema(form).model_dump(exclude_none=True)
    assert schema["additionalProperties"] is False and set(schema["required"]) == set(schema["properties"])
