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
THINK_CLOSE = "\n</think>\n\n"
NO_THINKING = THINK_OPEN + THINK_CLOSE
_TAG = re.compile(r"<(/?)think(?:ing)?>")


class Thought(NamedTuple):
    """A response in two parts; `state` says whether thinking was there and whether it was closed."""

    thinking: str
    answer: str
    state: Literal["none", "closed", "open"]


def split_thinking(text: str, thinking_opened: bool = False) -> Thought:
    """Split a response into thinking and answer.

    `thinking_opened` says that the prompt already opened the thinking, so the text starts inside it.
    The answer is what follows the last `</think>`; a thinking that was opened and never closed has the
    state "open" and an empty answer, whatever stood before it. A closing tag without an opening one still
    ends a thinking. A tag inside a sentence is a mention and opens nothing.
    """
    tags = list(_TAG.finditer(text))
    closing = next((tag for tag in reversed(tags) if tag[1]), None)
    end = closing.end() if closing else 0
    if (thinking_opened and not closing) or any(_opens(text, end, tag) for tag in tags if tag.start() >= end):
        return Thought(_TAG.sub("", text).strip(), "", "open")
    if closing:
        return Thought(_TAG.sub("", text[: closing.start()]).strip(), text[end:].strip(), "closed")
    return Thought("", text.strip(), "none")


def _opens(text: str, start: int, tag: re.Match[str]) -> bool:
    """True when `tag` begins the text, a line or a sentence."""
    before = text[max(start, tag.start() - 40) : tag.start()]
    return not before.strip() or before.rstrip(" \t")[-1] in "\n.!?:>"


def thought_of(output: Any, thinking_opened: bool = False) -> Thought:
    """The response in an Inspect `ModelOutput`, its thinking from a content part of its own or split off the text.

    Tags that a server leaves in the text beside such a part are split off too. A refusal that the server reports
    in its own field is an answer: it never was inside a thinking.
    """
    reasoning = [part.reasoning for part in _parts(output) if part.type == "reasoning"]
    text = output.message.text if output.choices else ""
    thought = split_thinking(text, thinking_opened and not reasoning and not refused(output))
    if not reasoning:
        return thought
    ended = thought.answer or (output.metadata or {}).get("thinking") == "closed"
    state: Literal["closed", "open"] = "closed" if ended and thought.state != "open" else "open"
    return Thought("\n".join(reasoning).strip() or thought.thinking, thought.answer, state)


def refused(output: Any) -> bool:
    """True when a server reports the response of an Inspect `ModelOutput` as a refusal, in a field of its own."""
    return any(getattr(part, "refusal", None) for part in _parts(output))


def _parts(output: Any) -> list[Any]:
    content = output.message.content if output.choices else ""
    return content if isinstance(content, list) else []


def join_thinking(thinking: str, answer: str) -> str:
    """A response as the released rows write it: the trace between tags, then the answer; or the answer alone.

    Tags inside either part are dropped, with what an answer's own closing tag ends: each stands once.
    """
    answer = split_thinking(answer).answer or answer.strip()
    if not thinking.strip():
        return answer
    return f"{THINK_OPEN}{_TAG.sub('', thinking).strip()}{THINK_CLOSE}{answer}"


def opens_thinking(tokenizer: Any) -> bool:
    """True when the model's chat template ends the prompt inside the thinking; without one a :class:`UserError`."""
    _check_template(tokenizer)
    probe = tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True
    )
    return bool(probe.rstrip().endswith("<think>"))


def _check_template(tokenizer: Any) -> None:
    if not getattr(tokenizer, "chat_template", None):
        name = getattr(tokenizer, "name_or_path", "")
        raise UserError(f"model '{name}': its tokenizer has no chat template; take a model that was tuned for chat.")


def prompt_tokens(tokenizer: Any, messages: Sequence[dict[str, str]], thinking: bool = False) -> list[int]:
    """Token ids of a conversation, ready for the assistant's turn, the thinking opened if asked for.

    The template brings its own special tokens, so none are added a second time. The opening tag is
    tokenized by itself, as in training.
    """
    _check_template(tokenizer)
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    opened = text.rstrip().endswith("<think>")
    if opened and not thinking:
        # Templates of R1-distilled models open the thinking unasked; without it the turn starts at the answer.
        text = text.rstrip().removesuffix("<think>")
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if thinking and not opened:
        ids += list(tokenizer(THINK_OPEN, add_special_tokens=False)["input_ids"])
    return [int(token) for token in ids]
