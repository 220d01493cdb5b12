"""Named settings of generation: the paper's, the same without a repetition penalty, and a small one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from star1lib.errors import UserError
from star1lib.models.generate import Settings

Kind = Literal["safety", "over_refusal", "reasoning"]
PAPER_SAFETY_TOKENS = 8_000
PAPER_REASONING_TOKENS = {
    "AIME2024": 16_384,
    "MATH500": 16_384,
    "HumanEval": 16_384,
    "GPQA-Diamond": 32_768,
    "MMLU-Pro": 4_096,
    "Probe": 4_096,
    "Sums": 4_096,
}
NAMES = ("paper", "plain", "small")


@dataclass(frozen=True)
class Protocol:
    """How responses are generated, always greedily: the penalty and the budget of each benchmark.

    `answer_tokens` None stands for the paper's budgets (3.2), else every response has `answer_tokens`
    (`reasoning_tokens` on reasoning benchmarks, where given), and a thinking model `thinking_tokens` on top.
    """

    name: str
    repetition_penalty: float
    answer_tokens: int | None = None
    thinking_tokens: int = 0
    reasoning_tokens: int | None = None

    def settings(self, benchmark: str, kind: Kind, thinking: bool) -> Settings:
        """The settings for one benchmark."""
        if self.answer_tokens is not None:
            answer = self.reasoning_tokens if kind == "reasoning" and self.reasoning_tokens else self.answer_tokens
            budget = answer + (self.thinking_tokens if thinking else 0)
        elif kind == "reasoning":
            budget = PAPER_REASONING_TOKENS[benchmark]
        else:
            budget = PAPER_SAFETY_TOKENS
        return Settings(budget, self.repetition_penalty)


def protocol(name: str, **settings: Any) -> Protocol:
    """The protocol called `name`.

    "paper": greedy, repetition penalty 1.2, the paper's budgets. "plain": the same with penalty 1.0.
    "small": greedy, penalty 1.0, `answer_tokens` (default 128) and `thinking_tokens` (default 384).
    Any of `repetition_penalty`, `answer_tokens`, `thinking_tokens` and `reasoning_tokens` may be set. Raises
    :class:`UserError` for an unknown name or setting.
    """
    if name not in NAMES:
        raise UserError(f"generation.name: '{name}' is not a protocol; choose one of {', '.join(NAMES)}.")
    values: dict[str, Any] = {"repetition_penalty": 1.2 if name == "paper" else 1.0}
    if name == "small":
        values |= {"answer_tokens": 128, "thinking_tokens": 384}
    for key, value in settings.items():
        whole = key in ("answer_tokens", "thinking_tokens", "reasoning_tokens")
        least = 0 if key == "thinking_tokens" else 1
        if not whole and key != "repetition_penalty":
            raise UserError(
                f"generation.{key}: no such setting; use repetition_penalty, answer_tokens, thinking_tokens or "
                "reasoning_tokens."
            )
        if whole and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise UserError(f"generation.{key}: {value!r} given; give a whole number from {least} on.")
        if key == "repetition_penalty" and (not isinstance(value, int | float) or value <= 0):
            raise UserError(f"generation.{key}: {value!r} given; give a number above 0 (1.0 = none).")
        values[key] = value
    return Protocol(name=name, **values)
