"""Prompts as the model expects them, and answers read after the thinking."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from star1lib.errors import UserError
from star1lib.models import checkpoints as model
from star1lib.models.chat import prompt_tokens, split_thinking

USER = [{"role": "user", "content": "What is 2+3?"}]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(model.tiny_checkpoint())


@pytest.mark.parametrize(
    ("text", "opened", "wanted"),
    [
        ("Five.", False, ("", "Five.", "none")),
        ("<think>\n2+3\n</think>\n\nFive.", False, ("2+3", "Five.", "closed")),
        ("2+3\n</think>\n\nFive.", True, ("2+3", "Five.", "closed")),
        ("2+3\n</think>\n\nFive.", False, ("2+3", "Five.", "closed")),
        ("<think>\n2+3 and on", False, ("2+3 and on", "", "open")),
        ("2+3 and on", True, ("2+3 and on", "", "open")),
        ("<think>\n2+3</think>", False, ("2+3", "", "closed")),
        ("", True, ("", "", "open")),
        ("", False, ("", "", "none")),
        # The model thinks twice: the answer is after the last thinking, and code or numbers before it do not count.
        ("<think>a</think> 4 <think>b</think> 5", False, ("a 4 b", "5", "closed")),
        ("<think>a</think>\n<think>b", False, ("a\nb", "", "open")),
        ("A tag <think> in an answer.", False, ("", "A tag <think> in an answer.", "none")),
    ],
)  # fmt: skip
def test_split_thinking(text, opened, wanted):
    assert tuple(split_thinking(text, opened)) == wanted


def test_prompt_is_the_template_and_nothing_twice(tokenizer):
    text = tokenizer.decode(prompt_tokens(tokenizer, USER))
    assert text == tokenizer.apply_chat_template(USER, tokenize=False, add_generation_prompt=True)
    assert text.endswith("<|im_start|>assistant\n")


def test_thinking_is_opened_with_the_tokens_of_training(tokenizer):
    plain = prompt_tokens(tokenizer, USER)
    opened = prompt_tokens(tokenizer, USER, thinking=True)
    assert opened == plain + tokenizer("<think>\n", add_special_tokens=False)["input_ids"]


def test_a_template_that_opens_the_thinking_itself(tokenizer, monkeypatch):
    template = tokenizer.chat_template.replace("'<|im_start|>assistant\n'", "'<|im_start|>assistant\n<think>\n'")
    template = template.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>\\n'")
    assert template != tokenizer.chat_template
    monkeypatch.setattr(tokenizer, "chat_template", template)
    thinking = tokenizer.decode(prompt_tokens(tokenizer, USER, thinking=True))
    direct = tokenizer.decode(prompt_tokens(tokenizer, USER))
    assert thinking.endswith("assistant\n<think>\n") and thinking.count("<think>") == 1
    assert "<think>" not in direct


def test_no_template_is_named(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    with pytest.raises(UserError, match="no chat template"):
        prompt_tokens(tokenizer, USER)
