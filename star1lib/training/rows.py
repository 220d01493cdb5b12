"""From scored examples to training rows: with or without the thinking trace, with or without benign variants.

A row is a prompt and a completion; the loss is on the completion alone (paper 3.1). `thinking=True`
puts the trace between <think> tags before the answer; `thinking=False` keeps the answer only, the
paper's "w/o think" variant (4.2): for a reasoning model after an empty trace, because its template opens one.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from typing import Any

from star1lib.errors import UserError
from star1lib.models.chat import NO_THINKING, THINK_OPEN, join_thinking, opens_thinking, prompt_tokens
from star1lib.records import Example, NonEmpty, Record
from star1lib.safeguards import sexualizes_minor

log = logging.getLogger(__name__)


class TrainRow(Record):
    """One training row; `kind` is `safety`, `benign`, `anchor` or `stage 0`, so that a mixture can be counted."""

    id: str
    prompt: NonEmpty
    completion: NonEmpty
    source: NonEmpty
    kind: NonEmpty = "safety"


def rows(
    examples: Iterable[Example], *, thinking: bool, kind: str = "safety", reasoner: bool = False
) -> list[TrainRow]:
    """Training rows of `examples` in their order; prompts that sexualize minors are left out.

    `reasoner` says that the model's template opens the thinking: without thinking its rows close it at once. Raises
    :class:`UserError` when thinking is asked for and an example has no trace.
    """
    out: list[TrainRow] = []
    for example in examples:
        if sexualizes_minor(example.question):
            continue
        if thinking and not example.thinking.strip():
            raise UserError(f"example {example.id}: no thinking trace; set `thinking: false` or leave the row out.")
        completion = join_thinking(example.thinking if thinking else "", example.answer)
        if reasoner and not thinking:
            completion = NO_THINKING + completion
        out.append(
            TrainRow(id=example.id, prompt=example.question, completion=completion, source=example.source, kind=kind)
        )
    return out


def split_benign(benign: Sequence[Example], train: int, seed: int) -> tuple[list[Example], list[Example]]:
    """Benign variants to train on (`train` of them) and the others, held out to measure over-refusal (paper 4.3).

    With no more than `train` of them all are trained on and none is held out, as the paper's 915 were.
    """
    if train >= len(benign):
        log.warning("all %d benign variants are trained on (%d asked for); none is held out", len(benign), train)
        return list(benign), []
    chosen = set(random.Random(seed).sample(range(len(benign)), train))
    return (
        [example for index, example in enumerate(benign) if index in chosen],
        [example for index, example in enumerate(benign) if index not in chosen],
    )


def tokenize(row: TrainRow, tokenizer: Any, max_length: int, joined: bool = False) -> dict[str, list[int]]:
    """Token ids of one row and the mask of the tokens that carry loss, cut to `max_length`.

    The prompt is rendered exactly as at inference. Templates of R1-distilled models open the thinking
    in the prompt already; the opening tag is then not repeated. `joined` tokenizes prompt and completion as one text.
    """
    messages = [{"role": "user", "content": row.prompt}]
    thinking = row.completion.startswith(THINK_OPEN)
    opened = thinking and opens_thinking(tokenizer)
    if joined:
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        text = prompt + row.completion.removeprefix(THINK_OPEN if opened else "")
        asked, ids = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (prompt, text))
        mask = [0] * len(asked) + [1] * (len(ids) + 1 - len(asked))
        return {"input_ids": [*ids, tokenizer.eos_token_id][:max_length], "completion_mask": mask[:max_length]}
    prompt_ids = prompt_tokens(tokenizer, messages, thinking=opened)
    # Tokenized apart, so that evaluation can open the thinking with the very same tokens.
    head = tokenizer(THINK_OPEN, add_special_tokens=False)["input_ids"] if thinking and not opened else []
    body = tokenizer(row.completion.removeprefix(THINK_OPEN), add_special_tokens=False)["input_ids"]
    completion_ids = [*head, *body, tokenizer.eos_token_id]
    ids = [*prompt_ids, *completion_ids][:max_length]
    mask = ([0] * len(prompt_ids) + [1] * len(completion_ids))[:max_length]
    return {"input_ids": ids, "completion_mask": mask}


def mask_of(
    row: TrainRow, tokenizer: Any, max_length: int = 8192, joined: bool = False
) -> tuple[list[str], list[bool]]:
    """The text of each token of one row, and whether the token carries loss: what a notebook colours."""
    tokens = tokenize(row, tokenizer, max_length, joined)
    return [tokenizer.decode([token]) for token in tokens["input_ids"]], [bool(m) for m in tokens["completion_mask"]]
