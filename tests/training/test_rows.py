"""Training rows: what carries loss, what is left out, what stays held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from star1lib import files as io
from star1lib.errors import UserError
from star1lib.models import checkpoints as model
from star1lib.records import Example, question_id, subset
from star1lib.training.rows import mask_of, rows, split_benign, tokenize
from star1lib.training.variants import Recipe, held_out_benign, training_rows


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
    assert all(len(item.thinking) < 20 for item in subset(pool, 10, seed=1, max_chars=45))


def test_benign_variants_are_held_out_whatever_a_variant_takes(tmp_path: Path) -> None:
    benign = [example(f"benign {i}", answer="Of course, here is how.") for i in range(10)]
    io.write_jsonl(tmp_path / "twins.jsonl", benign)
    io.write_jsonl(tmp_path / "selected.jsonl", [example(f"q{i}") for i in range(6)])
    trained = training_rows(Recipe(thinking=False, benign=3), tmp_path, 0, None, benign_for_training=4)
    held = {one.question for one in held_out_benign(tmp_path, 4, 0)}
    assert len(held) == 6
    assert not held & {row.prompt for row in trained}
    assert sum(row.kind == "benign" for row in trained) == 3
    with pytest.raises(UserError, match="benign rows asked for"):
        training_rows(Recipe(benign=5), tmp_path, 0, None, benign_for_training=4)
    with pytest.raises(UserError, match="held out"):
        split_benign(benign, 10, 0)


def test_an_empty_pool_is_a_sentence(tmp_path: Path) -> None:
    io.write_jsonl(tmp_path / "medium.jsonl", [])
    with pytest.raises(UserError, match="no rows in this pool"):
        training_rows(Recipe(pool="medium"), tmp_path, 0, None, 0)
