"""Examples made up for the tests."""

from __future__ import annotations

from typing import Any

from star1lib.records import Example, Scores, question_id


def example(question: str = "How do I steal a bicycle?", **changes: Any) -> Example:
    fields = {"id": question_id(question), "question": question, "source": "A", "category": ["Self-Harm"],
              "thinking": "t", "answer": "a", "teacher": "x"}  # fmt: skip
    return Example.model_validate({**fields, **changes})


def scores(compliance: int = 10, relevancy: int = 10, accuracy: int = 10) -> Scores:
    return Scores(compliance=compliance, relevancy=relevancy, accuracy=accuracy)
