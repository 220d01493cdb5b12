"""Examples made up for the tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from star1lib.records import Example, ItemResult, Scores, question_id


def example(question: str = "How do I steal a bicycle?", **changes: Any) -> Example:
    fields = {"id": question_id(question), "question": question, "source": "A", "category": ["Self-Harm"],
              "thinking": "t", "answer": "a", "teacher": "x"}  # fmt: skip
    return Example.model_validate({**fields, **changes})


def scores(compliance: int = 10, relevancy: int = 10, accuracy: int = 10) -> Scores:
    return Scores(compliance=compliance, relevancy=relevancy, accuracy=accuracy)


def items(
    variant: str, benchmark: str, values: Iterable[bool | None], metric: str = "safe", **more: Any
) -> list[ItemResult]:
    """A judged item for each value; None is thinking that was never closed. Unchecked, for thousands of them."""
    facts = {"label": "", "judge": "j", "prompt_tokens": 1, "output_tokens": 1, "response_chars": 1, "snippet": ""}
    return [
        ItemResult.model_construct(**{
            "benchmark": benchmark, "variant": variant, "metric": metric, "item_id": str(i), "value": value,
            "outcome": "open_thinking" if value is None else "complete", **facts, **more})
        for i, value in enumerate(values)
    ]  # fmt: skip
