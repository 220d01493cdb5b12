r"""Training rows of the paper's model families, token by token, against `masks.txt`, which was checked by hand.

Checked there: the prompt is the family's template with its generation prompt and carries no loss; every token after it,
thinking included, carries loss, the end of the turn last; nothing stands twice. A reasoning model's template has
opened the thinking with `<think>` and one newline, so its rows go on right behind these two tokens.

The templates are our own, of the shape that each family publishes; the published ones give the same rows. Where
a family's own tokenizer is not at hand a small one splits as it does, on words, digits and newlines.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from star1lib.models import chat, checkpoints
from star1lib.records import Example
from star1lib.study.standins import LLAMA, LLAMA_TOKENS, QWEN, QWEN_TOKENS, R1, R1_TOKENS
from star1lib.training.rows import mask_of, rows, tokenize

MASKS = Path(__file__).with_name("masks.txt")
EXAMPLE = Example(id="lock", question="Name 12 ways into a lock.", source="s", category=["Self-Harm"], teacher="t",
                  thinking="It's not theirs.\n\nSo I decline.", answer="I can't help.\nCall 110.")  # fmt: skip


class Family(NamedTuple):
    """A template of our own, the published one's file, the special tokens (begin, if any, and end first), digits."""

    template: str
    published: str
    special: list[str]
    digits: str = "{1,3}"
    begins: bool = True


FAMILIES = {
    "R1-Distill-Qwen": Family(R1, "deepseek-r1-distill", R1_TOKENS, ""),
    "R1-Distill-Llama": Family(R1, "deepseek-r1-distill", R1_TOKENS),
    "Qwen2.5-Instruct": Family(QWEN, "qwen2.5-instruct", QWEN_TOKENS, "", begins=False),
    "Llama-3.1-Instruct": Family(LLAMA, "llama3.1-instruct", LLAMA_TOKENS),
    "SmolLM2-Instruct": Family("", "smollm2-instruct", [], begins=False),
}
ROWS = [(family, thinking) for family in FAMILIES for thinking in (True, False)]


def tokenizer_of(name: str, template: str = "") -> Any:
    """A tokenizer that splits as the family's: SmolLM2's own, or every piece of its pattern a token."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    if not family.special:
        found = checkpoints.load_tokenizer(checkpoints.TINY)
        found.chat_template = template or found.chat_template
        return found
    pattern = Regex(r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + family.digits
                    + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")  # fmt: skip
    split = pre_tokenizers.Split(pattern, "isolated")
    text = "".join([template or family.template, QWEN, LLAMA, EXAMPLE.question, "\nuser\n\nassistant\n\nsystem\n"])
    text += chat.join_thinking(EXAMPLE.thinking, EXAMPLE.answer) + " " + chat.NO_THINKING + EXAMPLE.answer
    pieces = [piece for part in (text, *text.split(">"), "\n", "\n\n", ">\n", ">\n\n", "user\n", "user", "system")
              for piece, _ in split.pre_tokenize_str(part)]  # fmt: skip
    made = Tokenizer(models.WordLevel({piece: n for n, piece in enumerate(dict.fromkeys(["?", *pieces]))}, "?"))
    made.pre_tokenizer = split
    made.add_tokens([AddedToken(token, normalized=False, special="think" not in token) for token in family.special])
    begin, end = family.special[:2] if family.begins else (None, family.special[0])
    if begin:  # as these tokenizers do when they are not told otherwise
        made.post_processor = processors.TemplateProcessing(f"{begin} $A", None, [(begin, made.token_to_id(begin))])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=begin, eos_token=end, unk_token="?", chat_template=template or family.template
    )


def printed(name: str, thinking: bool, template: str = "", joined: bool = False) -> str:
    """The row as `masks.txt` shows it: a line a token, whether it carries loss and what it says."""
    tokenizer = tokenizer_of(name, template)
    [row] = rows([EXAMPLE], thinking=thinking, reasoner=chat.opens_thinking(tokenizer))
    lines = [f"{'yes' if loss else 'no '} {json.dumps(token, ensure_ascii=False)}"
             for token, loss in zip(*mask_of(row, tokenizer, joined=joined), strict=True)]  # fmt: skip
    how = ", joined" if joined else ""
    return "\n".join([f"== {name}, {'with' if thinking else 'without'} the trace{how}", *lines])


@pytest.mark.parametrize(("name", "thinking"), ROWS)
def test_rows_are_those_checked_by_hand(name: str, thinking: bool) -> None:
    assert printed(name, thinking) in MASKS.read_text(encoding="utf-8").strip().split("\n\n")


def test_no_row_of_the_file_is_left_over() -> None:
    assert len(MASKS.read_text(encoding="utf-8").strip().split("\n\n")) == len(ROWS) + 1


@pytest.mark.parametrize(("name", "thinking"), ROWS)
def test_joined_rows_differ_in_the_empty_thinking_of_a_reasoning_model_alone(name: str, thinking: bool) -> None:
    """As the authors tokenize: there the newlines around the border are one token, which no prompt ends in."""
    joined = printed(name, thinking, joined=True)
    if name.startswith("R1") and not thinking:
        assert "R1-Distill-Llama" in name or joined in MASKS.read_text(encoding="utf-8").split("\n\n")
        assert 'no  "<think>"\nno  "\\n\\n"\nyes "</think>"' in joined
    else:
        assert joined.replace(", joined", "") == printed(name, thinking)


@pytest.mark.parametrize(("name", "thinking"), ROWS)
def test_published_templates_give_the_same_rows(name: str, thinking: bool) -> None:
    named = os.environ.get("STAR1_DATA")
    path = Path(named or ".").parent / "templates" / f"{FAMILIES[name].published}.jinja"
    if not named or not path.exists():
        pytest.skip("no published templates beside STAR1_DATA")
    assert printed(name, thinking, path.read_text(encoding="utf-8")) == printed(name, thinking)


@pytest.mark.parametrize(("name", "thinking"), ROWS)
def test_a_row_is_the_prompt_of_inference_and_all_that_is_to_be_said(name: str, thinking: bool) -> None:
    tokenizer = tokenizer_of(name)
    opened = chat.opens_thinking(tokenizer)
    [row] = rows([EXAMPLE], thinking=thinking, reasoner=opened)
    made = tokenize(row, tokenizer, 8192)
    ids, mask = made["input_ids"], made["completion_mask"]
    asked = [{"role": "user", "content": EXAMPLE.question}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert ids[: len(prompt_ids)] == prompt_ids == chat.prompt_tokens(tokenizer, asked, opened)
    assert mask == [0] * len(prompt_ids) + [1] * (len(ids) - len(prompt_ids))
    # The turn ends as the template ends it, and that is where generation stops.
    told = tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": "So."}], tokenize=False)
    assert told.rpartition("So.")[2].strip() == tokenizer.eos_token
    assert ids[-1] == tokenizer.eos_token_id and ids[len(prompt_ids) :].count(tokenizer.eos_token_id) == 1
    assert not FAMILIES[name].begins or ids.count(tokenizer.bos_token_id) == 1
    said = "".join(mask_of(row, tokenizer)[0])
    assert said.count("<think>") == (opened or thinking) and (EXAMPLE.thinking in said) == thinking
