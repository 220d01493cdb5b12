"""Named settings of generation."""

from __future__ import annotations

import pytest

from star1lib.errors import UserError
from star1lib.evaluation.settings import protocol
from star1lib.models.generate import Settings


@pytest.mark.parametrize(
    ("benchmark", "kind", "budget"),
    [
        ("StrongREJECT", "safety", 8_000),
        ("XSTest", "over_refusal", 8_000),
        ("AIME2024", "reasoning", 16_384),
        ("MATH500", "reasoning", 16_384),
        ("HumanEval", "reasoning", 16_384),
        ("GPQA-Diamond", "reasoning", 32_768),
        ("MMLU-Pro", "reasoning", 4_096),
    ],
)
def test_the_papers_budgets(benchmark, kind, budget):
    assert protocol("paper").settings(benchmark, kind, True) == Settings(budget, 1.2)
    assert protocol("plain").settings(benchmark, kind, False) == Settings(budget, 1.0)


def test_small_gives_thinking_its_own_budget():
    small = protocol("small", answer_tokens=10, thinking_tokens=30)
    assert small.settings("Probe", "reasoning", False) == Settings(10)
    assert small.settings("Probe", "reasoning", True) == Settings(40)
    more = protocol("small", answer_tokens=10, thinking_tokens=30, reasoning_tokens=50)
    assert more.settings("Probe", "reasoning", True) == Settings(80)
    assert more.settings("StrongREJECT", "safety", False) == Settings(10)
    assert protocol("small", repetition_penalty=1.2).settings("Probe", "reasoning", False).repetition_penalty == 1.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "large"}, "generation.name"),
        ({"name": "small", "tokens": 3}, "generation.tokens"),
        ({"name": "small", "answer_tokens": 0}, "from 1 on"),
        ({"name": "small", "answer_tokens": "many"}, "whole number"),
        ({"name": "small", "thinking_tokens": True}, "whole number"),
        ({"name": "plain", "repetition_penalty": 0}, "above 0"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        protocol(**arguments)
