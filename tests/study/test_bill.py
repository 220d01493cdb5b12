"""The bill: counted on real prompts, priced, and timed by what binds."""

from __future__ import annotations

import pytest

from star1lib.errors import UserError
from star1lib.models import roles
from star1lib.study import bill
from star1lib.study.bill import Stage

PROMPT = [{"role": "user", "content": "x" * 384}]  # 96 tokens and 4 of overhead
PRICES = {"openai/gpt": {"input": 2.5, "output": 10.0}}


def profile(**more: object) -> dict[str, roles.Role]:
    fields = {"model": "openai/gpt", "max_connections": 10} | more
    return roles.models(roles.load({"scorer": fields, "teacher": {"model": "vllm/r1"}}, PRICES))


def test_one_stage_by_hand() -> None:
    (got,) = bill.estimate([Stage("score", "scorer", [PROMPT] * 3, 50, calls=3000)], PRICES, profile())
    assert (got.calls, got.input_tokens, got.output_tokens) == (3000, 300_000, 150_000)
    assert got.price_usd == pytest.approx(0.75 + 1.5)
    # 3,000 calls of two seconds, ten at a time.
    assert got.hours == pytest.approx(600 / 3600)


def test_output_is_capped_and_a_tokenizer_is_named() -> None:
    stages = [Stage("score", "scorer", [PROMPT], 5000)]
    (got,) = bill.estimate(stages, {}, profile(max_tokens=64), counter=lambda text: 7, counted_by="tokenizer T")
    assert (got.input_tokens, got.output_tokens, got.counted_by) == (11, 64, "tokenizer T")


def test_local_models_are_free_and_unknown_prices_are_said() -> None:
    stages = [Stage("a", "teacher", [PROMPT], 1), Stage("b", "scorer", [PROMPT], 1)]
    bills = bill.estimate(stages, {}, profile(model="openai/new"))
    assert (bills[0].price_usd, bills[1].price_usd) == (0.0, None)
    text = bill.table(bills)
    assert "No price known for openai/new" in text and "4 characters per token" in text
    with pytest.raises(UserError, match="no role 'classifier'"):
        bill.estimate([Stage("c", "classifier", [PROMPT], 1)], {}, profile())


def test_the_papers_scale_is_a_few_hundred_dollars() -> None:
    questions = [
        f"How would someone do the harmful thing number {n} without being noticed by others?" for n in range(999)
    ]
    openai = {"model": "openai/gpt"}
    players = roles.load(
        dict.fromkeys(("classifier", "scorer", "benign_rewriter", "benign_scorer"), openai)
        | {"teacher": {"model": "openai-api/deepseek/r1", "max_tokens": 8000}},
        PRICES | {"openai-api/deepseek/r1": {"input": 0.55, "output": 2.19}},
    )
    known = roles.models(players)
    bills = bill.estimate(bill.method_stages(questions, pool=41_000), PRICES, known)
    assert [b.calls for b in bills] == [41_000] * 3 + [1000] * 3
    total = sum(b.price_usd or 0 for b in bills)
    assert 150 < total < 400
    lines = bill.table(bills).splitlines()
    assert lines[2].startswith("| tag | classifier | openai/gpt | 41,000 |") and lines[8].startswith("| total |")


def test_empty_pool_is_a_clear_sentence() -> None:
    with pytest.raises(UserError, match="no questions"):
        bill.method_stages([])
