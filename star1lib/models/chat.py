"""From a question to prompt tokens, and from a response to its thinking and its answer.

A thinking model starts its turn inside the thinking: the prompt ends with the template's generation
prompt and `<think>`, as templates of R1-distilled models do. Answers are always read after the thinking.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from star1lib.errors import UserError

THINK_OPEN = "<think>\n"
NO_THINKING = "<think>\n\n</think>\n\n"
_OPENING = re.compile(r"\s*<think>")
_CLOSING = "</think>"


class Thought(NamedTuple):
    """A response in two parts; `state` says whether thinking was there and whether it was closed."""

    thinking: str
    answer: str
    state: Literal["none", "closed", "open"]


def split_thinking(text: str, thinking_opened: bool = False) -> Thought:
    """Split a response into thinking and answer.

    `thinking_opened` says that the prompt already opened the thinking, so the text starts inside it.
    The answer is what follows the last `</think>`; a thinking that was opened and never closed has the
    state "open" and an empty answer. A closing tag without an opening one still ends a thinking.
    """
    before, closing, answer = text.rpartition(_CLOSING)
    opening = _OPENING.match(answer)
    if opening or (thinking_opened and not closing):
        thinking = text if not closing else before + answer
        return Thought(_strip_tags(thinking), "", "open")
    if closing:
        return Thought(_strip_tags(before), answer.strip(), "closed")
    return Thought("", text.strip(), "none")


def _strip_tags(text: str) -> str:
    return text.replace("<think>", "").replace(_CLOSING, "").strip()


def join_thinking(thinking: str, answer: str) -> str:
    """A response as the released rows write it: the trace between tags, then the answer; or the answer alone."""
    if not thinking.strip():
        return answer.strip()
    return f"{THINK_OPEN}{thinking.strip()}\n{_CLOSING}\n\n{answer.strip()}"


def opens_thinking(tokenizer: Any) -> bool:
    """True when the model's chat template ends the prompt inside the thinking."""
    probe = tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True
    )
    return bool(probe.rstrip().endswith("<think>"))


def prompt_tokens(tokenizer: Any, messages: Sequence[dict[str, str]], thinking: bool = False) -> list[int]:
    """Token ids of a conversation, ready for the assistant's turn, the thinking opened if asked for.

    The template brings its own special tokens, so none are added a second time. The opening tag is
    tokenized by itself, as in training.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UserError("the tokenizer has no chat template; evaluate a model that was tuned for chat.")
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    opened = text.rstrip().endswith("<think>")
    if opened and not thinking:
        # Templates of R1-distilled models open the thinking unasked; without it the turn starts at the answer.
        text = text.rstrip().removesuffix("<think>")
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if thinking and not opened:
        ids += list(tokenizer(THINK_OPEN, add_special_tokens=False)["input_ids"])
    return [int(token) for token in ids]
