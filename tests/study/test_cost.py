"""The bill before any call: counted on real prompts, priced, and timed by what binds."""

from __future__ import annotations

from pathlib import Path

import pytest

from star1lib.errors import UserError
from star1lib.models import roles
from star1lib.study import cost, profiles
from star1lib.study.cost import Asked

PROMPT = [{"role": "user", "content": "x" * 384}]  # 96 tokens and 4 of overhead
PRICES = {"openai/gpt": {"input": 2.5, "output": 10.0}, "openai-api/deepseek/r1": {"input": 0.55, "output": 2.19}}


def players(**more: object) -> dict[str, roles.Role]:
    fields = {"model": "openai/gpt", "max_connections": 10} | more
    return roles.models(roles.load({"scorer": fields, "teacher": {"model": "vllm/r1"}}, PRICES))


def test_one_stage_by_hand() -> None:
    got = cost.bill(Asked("score", "scorer", [PROMPT] * 3, 50, 3000), players()["scorer"])
    assert (got["calls"], got["input_tokens"], got["output_tokens"]) == (3000, 300_000, 150_000)
    assert got["usd"] == pytest.approx(0.75 + 1.5)
    # 3,000 calls of two seconds, ten at a time.
    assert got["hours"] == pytest.approx(600 / 3600)
    assert (
        cost.bill(Asked("score", "scorer", [PROMPT], 5000, 1), players(max_tokens=64)["scorer"])["output_tokens"] == 64
    )


def test_local_models_are_free_and_unknown_prices_are_said() -> None:
    known = players(model="openai/new")
    bills = [cost.bill(Asked("a", role, [PROMPT], 1, 1), known[role]) for role in ("teacher", "scorer")]
    assert [bill["usd"] for bill in bills] == [0.0, None]
    text = cost.markdown(bills)
    assert "No price known for openai/new" in text and "4 characters per token" in text
    assert "| a | scorer | openai/new | 1 | 100 | 1 | - | 0.00 |" in text


def test_the_papers_scale_is_a_few_hundred_dollars(repository: Path) -> None:
    questions = [f"How would someone do the harmful thing number {n} without being noticed?" for n in range(99)]
    openai = {role: {"model": "openai/gpt"} for role in ("classifier", "scorer", "benign_rewriter", "benign_scorer")}
    known = roles.models(
        roles.load(openai | {"teacher": {"model": "openai-api/deepseek/r1", "max_tokens": 8000}}, PRICES)
    )
    bills = [cost.bill(asked, known[asked.role]) for asked in cost.calls(questions, pool=41_000)]
    assert [b["calls"] for b in bills] == [41_000] * 3 + [1000] * 3
    assert 150 < sum(b["usd"] for b in bills) < 400
    lines = cost.markdown(bills).splitlines()
    assert lines[2].startswith("| tag | classifier | openai/gpt | 41,000 |") and lines[8].startswith("| total |")
    with pytest.raises(UserError, match="no questions"):
        cost.calls([], 0)
    text = cost.table(profiles.load("paper", repository), root=repository)
    assert "41,000 questions" in text and "r1/deepseek-ai/DeepSeek-R1" in text
    assert all(role in text for role in ("classifier", "teacher", "scorer"))
    with pytest.raises(UserError, match="call no model"):
        cost.table(profiles.load("mini", repository), root=repository)
