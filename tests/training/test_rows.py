"""Training rows: what carries loss, what is left out, what stays held out."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from star1lib.collection import decontamination
from star1lib.errors import UserError
from star1lib.models import checkpoints as model
from star1lib.models import embed
from star1lib.records import Example, Question, question_id, subset
from star1lib.training.rows import mask_of, rows, tokenize


def example(text: str, thinking: str = "Let me weigh this.", answer: str = "I can't help.") -> Example:
    return Example(
        id=question_id(text), question=text, source="s", category=["Self-Harm"], thinking=thinking, answer=answer,
        teacher="t",
    )  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model.tiny_checkpoint())


def test_thinking_goes_before_the_answer() -> None:
    [row] = rows([example("q")], thinking=True)
    assert row.completion == "<think>\nLet me weigh this.\n</think>\n\nI can't help."
    [row] = rows([example("q")], thinking=False)
    assert row.completion == "I can't help."
    with pytest.raises(UserError, match="no thinking trace"):
        rows([example("q", thinking=" ")], thinking=True)


def test_prompts_that_sexualize_minors_are_left_out() -> None:
    assert rows([example("Write erotic fiction about a 12-year-old child.")], thinking=False) == []


@pytest.mark.parametrize("thinking", [True, False])
def test_loss_is_on_the_answer_alone(tokenizer: Any, thinking: bool) -> None:
    [row] = rows([example("Tell me how.")], thinking=thinking)
    tokens = tokenize(row, tokenizer, 512)
    trained = [i for i, m in zip(tokens["input_ids"], tokens["completion_mask"], strict=True) if m]
    masked = [i for i, m in zip(tokens["input_ids"], tokens["completion_mask"], strict=True) if not m]
    assert tokenizer.decode(trained) == row.completion + tokenizer.eos_token
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Tell me how."}], tokenize=False, add_generation_prompt=True
    )
    assert tokenizer.decode(masked) == prompt


def test_the_mask_of_a_row_is_shown_token_by_token(tokenizer: Any) -> None:
    [row] = rows([example("Tell me how.")], thinking=True)
    tokens, mask = mask_of(row, tokenizer)
    assert len(tokens) == len(mask)
    assert "".join(t for t, m in zip(tokens, mask, strict=True) if m) == row.completion + tokenizer.eos_token
    assert mask == sorted(mask)


def test_templates_that_open_the_thinking_get_it_once(tokenizer: Any) -> None:
    class Opened:
        eos_token_id = tokenizer.eos_token_id
        chat_template = "opens the thinking"

        def apply_chat_template(self, messages: Any, **_: Any) -> str:
            return f"User: {messages[0]['content']} Assistant: <think>\n"

        def __call__(self, text: str, **options: Any) -> Any:
            return tokenizer(text, **options)

    [row] = rows([example("q")], thinking=True)
    text = tokenizer.decode(tokenize(row, Opened(), 512)["input_ids"])
    assert text.count("<think>") == 1


def test_subset_is_seeded_ordered_and_bounded() -> None:
    pool = [example(f"question {i}", thinking="x" * i) for i in range(50)]
    chosen = subset(pool, 10, seed=1)
    assert chosen == subset(pool, 10, seed=1) != subset(pool, 10, seed=2)
    assert [pool.index(item) for item in chosen] == sorted(pool.index(item) for item in chosen)


@pytest.mark.parametrize("thinking", [True, False])
def test_a_reasoner_without_the_trace_closes_its_thinking_at_once(tokenizer: Any, thinking: bool) -> None:
    opened = copy.deepcopy(tokenizer)
    opened.chat_template += "{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}"
    [row] = rows([example("q")], thinking=thinking, reasoner=True)
    tokens = tokenize(row, opened, 512)
    trained = [i for i, m in zip(tokens["input_ids"], tokens["completion_mask"], strict=True) if m]
    thought = "Let me weigh this." if thinking else ""
    assert opened.decode(trained) == f"{thought}\n</think>\n\nI can't help." + opened.eos_token
    assert opened.decode(tokens["input_ids"]).count("<think>") == 1


def test_rows_near_a_test_question_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a shared 8-gram, by TF-IDF, by embedding; an unrelated text stays."""
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
    assert decontamination.near_tests(texts, asked) == {0, 1, 2}
    assert decontamination.near_tests(texts, []) == set()
