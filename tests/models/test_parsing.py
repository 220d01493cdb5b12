"""Strict readers: the right value or a reason, never a wrong value, never another exception."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star1lib.models.api import parsing
from star1lib.models.api.parsing import PARSERS, ParseError
from star1lib.policies import CATEGORIES, OTHER
from star1lib.records import Scores

GOOD: dict[str, tuple[str, Any]] = {
    "tags": (json.dumps({"categories": [CATEGORIES[1], CATEGORIES[0]]}), [CATEGORIES[1], CATEGORIES[0]]),
    "scores": (
        '{"compliance": 10, "relevancy": 0, "accuracy": 7}',
        Scores(compliance=10, relevancy=0, accuracy=7),
    ),
    "benign_scores": (
        '{"safety": 5, "quality": 1, "compliance": 3}',
        parsing.BenignScores(safety=5, quality=1, compliance=3),
    ),
    "rewrite": ('{"question": " How do I bake bread? "}', "How do I bake bread?"),
    "refusal": ('{"label": "partial_refusal"}', "partial_refusal"),
    "harm": ('{"harmful": false}', False),
    "rubric": ('{"score": 4}', 4),
    "guard": ("unsafe\nS1, S10", parsing.GuardVerdict(safe=False, codes=("S1", "S10"))),
}


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_the_asked_for_answer_is_read_bare_padded_and_fenced(name: str) -> None:
    text, value = GOOD[name]
    assert PARSERS[name](text) == value
    assert PARSERS[name](f"\n  {text}\n") == value
    if name != "guard":
        for fence in ("```json\n%s\n```", "```\n%s\n```", " ```json\r\n%s\r\n``` "):
            assert PARSERS[name](fence % text) == value


@pytest.mark.parametrize("name", sorted(set(PARSERS) - {"guard"}))
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
def test_anything_around_the_value_is_refused(name: str, frame: str) -> None:
    with pytest.raises(ParseError):
        PARSERS[name](frame.replace("%s", GOOD[name][0]))


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("tags", '["Arson"]', "not one of"),
        ("tags", "[]", "non-empty"),
        ("tags", json.dumps([CATEGORIES[0], OTHER]), "beside"),
        ("tags", '[["Other"]]', "not one of"),
        ("tags", '{"tags": ["Other"]}', "missing"),
        ("tags", '"Other"', "one JSON value"),
        ("tags", "", "empty"),
        ("scores", '{"compliance": 10, "relevancy": 9}', "missing: accuracy"),
        ("scores", '{"compliance": 11, "relevancy": 9, "accuracy": 1}', "0 to 10"),
        ("scores", '{"compliance": -1, "relevancy": 9, "accuracy": 1}', "0 to 10"),
        ("scores", '{"compliance": 9.5, "relevancy": 9, "accuracy": 1}', "whole number"),
        ("scores", '{"compliance": true, "relevancy": 9, "accuracy": 1}', "whole number"),
        ("scores", '{"compliance": "9", "relevancy": 9, "accuracy": 1}', "whole number"),
        ("scores", '{"compliance": NaN, "relevancy": 9, "accuracy": 1}', "NaN"),
        ("scores", '{"compliance": 1e999, "relevancy": 9, "accuracy": 1}', "whole number"),
        ("scores", '{"compliance": 9, "compliance": 1, "relevancy": 9, "accuracy": 1}', "twice"),
        ("scores", '{"compliance": 9, "relevancy": 9, "accuracy": 1, "total": 19}', "beside"),
        ("scores", "[" * 30_000, "valid JSON"),
        ("scores", '{"compliance": ' + "9" * 6000 + "}", "valid JSON"),
        ("scores", "{" + " " * 100_001 + "}", "too long"),
        ("scores", "__import__('os').system('true')", "one JSON value"),
        ("benign_scores", '{"safety": 0, "quality": 1, "compliance": 3}', "1 to 5"),
        ("rewrite", '{"question": "  "}', "non-empty"),
        ("refusal", '{"label": "refusal"}', "one of"),
        ("refusal", '{"label": ["full_refusal"]}', "one of"),
        ("harm", '{"harmful": "no"}', "true or false"),
        ("harm", '{"harmful": 0}', "true or false"),
        ("rubric", '{"score": 6}', "1 to 5"),
        ("guard", "Safe", "verdict"),
        ("guard", "safe\nS1", "verdict"),
        ("guard", "unsafe\nS1\nS2", "verdict"),
        ("guard", "unsafe\nviolence", "code"),
    ],
)
def test_refusals_say_why(name: str, text: str, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        PARSERS[name](text)


def test_category_names_match_without_case_and_spacing() -> None:
    assert parsing.parse_tags('["harassment/Hate /discrimination"]') == [CATEGORIES[0]]
    assert parsing.parse_tags(json.dumps([CATEGORIES[2], CATEGORIES[2].upper()])) == [CATEGORIES[2]]


def test_a_remark_beside_the_scores_is_dropped() -> None:
    text = '{"compliance": 10.0, "relevancy": 9, "accuracy": 1, "reason": "sound"}'
    assert parsing.parse_scores(text) == Scores(compliance=10, relevancy=9, accuracy=1)


def test_raw_text_stays_out_of_repr() -> None:
    assert "secret words" not in repr(parsing.ErrorRow(id="1", reason="r", raw="secret words"))


KEYS = ["categories", "category", "compliance", "relevancy", "accuracy", "safety", "quality", "question", "label"]
KEYS += ["harmful", "score", "reason", "x"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([*CATEGORIES, OTHER, *parsing.REFUSAL_LABELS, "5", "safe", "unsafe", ""]),
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
    text = draw(st.sampled_from([good for good, _ in GOOD.values()]))
    place = draw(st.integers(0, len(text)))
    if kind == 2:
        return draw(FRAMES).replace(
            "%s", text[:place] + draw(st.text(max_size=3)) + text[place + draw(st.integers(0, 3)) :]
        )
    return text[:place]


def legal(name: str, value: Any) -> bool:
    """Whether `value` is one that the parser may return at all."""
    checks: dict[str, Callable[[], bool]] = {
        "tags": lambda: bool(value) and set(value) <= {*CATEGORIES, OTHER} and (value == [OTHER] or OTHER not in value),
        "scores": lambda: all(type(v) is int and 0 <= v <= 10 for v in value.model_dump().values()),
        "benign_scores": lambda: all(type(v) is int and 1 <= v <= 5 for v in value.model_dump().values()),
        "rewrite": lambda: isinstance(value, str) and bool(value.strip()),
        "refusal": lambda: value in parsing.REFUSAL_LABELS,
        "harm": lambda: isinstance(value, bool),
        "rubric": lambda: type(value) is int and 1 <= value <= 5,
        "guard": lambda: isinstance(value.safe, bool) and not (value.safe and value.codes),
    }
    return checks[name]()


def means(name: str, text: str, value: Any) -> bool:
    """Whether `value` is what the text says, read by a second, independent way."""
    if name == "guard":
        return text.strip().startswith("safe" if value.safe else "unsafe")
    body = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    said = json.loads(body)
    if name == "tags":
        names = said if isinstance(said, list) else next(v for k, v in said.items() if k in ("categories", "category"))
        squash = [" ".join(n.replace("/", " / ").split()).casefold() for n in names]
        return [" ".join(v.replace("/", " / ").split()).casefold() for v in value] == list(dict.fromkeys(squash))
    if name in ("scores", "benign_scores"):
        return all(said[key] == number for key, number in value.model_dump().items())
    if name == "rewrite":
        return bool(said["question"].strip() == value)
    return bool(said[{"refusal": "label", "harm": "harmful", "rubric": "score"}[name]] == value)


@settings(max_examples=2500, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(malformed())
def test_property_an_error_or_the_value_that_the_text_says(text: str) -> None:
    for name, parser in PARSERS.items():
        try:
            value = parser(text)
        except ParseError as err:
            assert err.reason
            continue
        assert legal(name, value)
        assert means(name, text, value)


def test_schemas_name_what_the_parsers_need() -> None:
    for schema in (parsing.TAGS_SCHEMA, parsing.SCORES_SCHEMA, parsing.HARM_SCHEMA, parsing.RUBRIC_SCHEMA):
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"])
