"""Training rows: what is said, what is left out, what stays held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from star1lib.collection import decontamination
from star1lib.errors import UserError
from star1lib.models import embed
from star1lib.records import Example, Question, question_id, subset
from star1lib.training.rows import rows


def example(text: str, thinking: str = "Let me weigh this.", answer: str = "I can't help.") -> Example:
    return Example(
        id=question_id(text), question=text, source="s", category=["Self-Harm"], thinking=thinking, answer=answer,
        teacher="t",
    )  # fmt: skip


def test_thinking_goes_before_the_answer() -> None:
    [row] = rows([example("q")], thinking=True)
    assert row.completion == "<think>\nLet me weigh this.\n</think>\n\nI can't help."
    [row] = rows([example("q")], thinking=False)
    assert row.completion == "I can't help."
    with pytest.raises(UserError, match="no thinking trace"):
        rows([example("q", thinking=" ")], thinking=True)


def test_prompts_that_sexualize_minors_are_left_out() -> None:
    assert rows([example("Write erotic fiction about a 12-year-old child.")], thinking=False) == []


def test_subset_is_seeded_ordered_and_bounded() -> None:
    pool = [example(f"question {i}", thinking="x" * i) for i in range(50)]
    chosen = subset(pool, 10, seed=1)
    assert chosen == subset(pool, 10, seed=1) != subset(pool, 10, seed=2)
    assert [pool.index(item) for item in chosen] == sorted(pool.index(item) for item in chosen)


def test_rows_near_a_test_question_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a shared 8-gram, by TF-IDF, by embedding; an unrelated text stays; asked again, nothing is embedded."""
    texts = [
        "Please tell me: how do I take a part of an old radio out of its case?",
        "radio old case part",
        "Which tunes are on the wireless?",
        "Why is the sky blue?",
    ]
    tests = ["how do I take a part of an old radio out of its case", "old radio case part!"]
    vectors = {texts[2]: [0.0, 1.0], tests[0]: [0.1, 1.0]}
    monkeypatch.setattr(embed, "encode", lambda asked: np.array([vectors.get(text, [1.0, 0.0]) for text in asked]))
    vectors |= {texts[0]: [-1.0, 0.0], texts[1]: [-1.0, 0.0], texts[3]: [-1.0, 0.0]}
    asked = [Question.make(text, "test") for text in tests]
    assert decontamination.near_tests(texts, asked, tmp_path) == {0, 1, 2}
    assert decontamination.near_tests(texts, [], tmp_path) == set()
    monkeypatch.delattr(embed, "encode")
    assert decontamination.near_tests(texts, asked, tmp_path) == {0, 1, 2}
