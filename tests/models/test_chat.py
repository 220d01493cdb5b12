"""Prompts as the model expects them, and answers read after the thinking."""

from __future__ import annotations

import pytest
from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ContentReasoning, ContentText, ModelOutput
from transformers import AutoTokenizer

from star1lib.errors import UserError
from star1lib.models import checkpoints as model
from star1lib.models.chat import join_thinking, opens_thinking, prompt_tokens, split_thinking, thought_of

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
        ("Sure.\n<think>\nIt is 4", False, ("Sure.\n\nIt is 4", "", "open")),
        ("Sure. <think>It is 4", False, ("Sure. It is 4", "", "open")),
        ("Sure.\n<think>4?</think>\n5", False, ("Sure.\n4?", "5", "closed")),
        ("<thinking>4?</thinking>5", False, ("4?", "5", "closed")),
    ],
)  # fmt: skip
def test_split_thinking(text, opened, wanted):
    assert tuple(split_thinking(text, opened)) == wanted


REASONED = ContentReasoning(reasoning="4?")


@pytest.mark.parametrize(
    ("content", "opened", "wanted"),
    [
        ("4?</think>5", True, ("4?", "5", "closed")),
        ([REASONED, ContentText(text="5")], True, ("4?", "5", "closed")),
        ([REASONED, ContentText(text="</think>\n\n5")], False, ("4?", "5", "closed")),
        ([REASONED, ContentText(text="")], False, ("4?", "", "open")),
        ([REASONED, ContentText(text="Hm.\n<think>\nor 6")], False, ("4?", "", "open")),
        # A server's own field of refusals: the model never was inside a thinking.
        ([ContentText(text="I cannot help.", refusal=True)], True, ("", "I cannot help.", "none")),
    ],
)
def test_the_response_of_a_served_model(content, opened, wanted):
    message = ChatMessageAssistant(content=content)
    output = ModelOutput(model="m", choices=[ChatCompletionChoice(message=message)])
    assert tuple(thought_of(output, opened)) == wanted


def test_no_choice_is_an_empty_response():
    assert tuple(thought_of(ModelOutput(model="m"))) == ("", "", "none")


def test_tags_stand_once_in_a_joined_response():
    assert join_thinking("<think>4?</think>", "</think>\n\n5") == "<think>\n4?\n</think>\n\n5"
    assert join_thinking("", " 5 ") == "5"


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
    for ask in (lambda: prompt_tokens(tokenizer, USER), lambda: opens_thinking(tokenizer)):
        with pytest.raises(UserError, match="its tokenizer has no chat template"):
            ask()
