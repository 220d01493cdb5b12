"""Named settings of generation."""

from __future__ import annotations

import pytest

from star1lib.errors import UserError
from star1lib.evaluation.settings import Evaluation, Generation
from star1lib.files import parse_record


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
    for name, penalty in (("paper", 1.2), ("plain", 1.0)):
        generation = Generation(name=name)
        assert generation.repetition_penalty == penalty
        assert generation.budget(benchmark, kind, True) == generation.budget(benchmark, kind, False) == budget


def test_small_gives_thinking_its_own_budget():
    assert Generation() == Generation(name="small", answer_tokens=128, thinking_tokens=384)
    small = Generation(answer_tokens=10, thinking_tokens=30)
    assert [small.budget("Probe", "reasoning", thinking) for thinking in (False, True)] == [10, 40]
    more = Generation(answer_tokens=10, thinking_tokens=30, reasoning_tokens=50)
    assert (more.budget("Probe", "reasoning", True), more.budget("StrongREJECT", "safety", False)) == (80, 10)
    assert Generation(repetition_penalty=1.2).repetition_penalty == 1.2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"generation": {"name": "large"}}, "generation.name.*'paper', 'plain' or 'small'"),
        ({"generation": {"tokens": 3}}, "generation.tokens.*not permitted"),
        ({"generation": {"answer_tokens": 0}}, "generation.answer_tokens.*greater than or equal to 1"),
        ({"generation": {"answer_tokens": "many"}}, "generation.answer_tokens.*valid integer"),
        ({"generation": {"thinking_tokens": True}}, "generation.thinking_tokens.*valid integer"),
        ({"generation": {"name": "plain", "repetition_penalty": 0}}, "repetition_penalty.*greater than 0"),
        ({"generation": "small"}, "generation"),
        ({"limits": {"Probe": 0}}, "limits.Probe.*greater than or equal to 1"),
        ({"limit": {}}, "'limit'"),
    ],
)
def test_bad_settings_are_named(given, message):
    with pytest.raises(UserError, match=f"evaluation: field .*{message}"):
        parse_record(given, Evaluation, "evaluation")
