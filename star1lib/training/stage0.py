"""Stage 0: a toy reasoning model, made from a plain one with rows that code and the model itself write.

The paper starts from reasoning models; none is small enough for a laptop. So a plain chat model is fine-tuned once on
worked arithmetic inside <think>, written by code, and on its own answers to harmless prompts after a thought that
only restates the request. Its template opens the thinking, as templates of R1-distilled models do. Nothing in
these rows is harmful, refuses, or speaks of policies: what a variant does with harm it learns later.

The same helpers make benign anchors: a model's own finished answers to harmless prompts that stage 0 did not see.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from star1lib.files import fingerprint, read_records, write_jsonl
from star1lib.models import chat, checkpoints
from star1lib.records import Question, Record, question_id
from star1lib.training.rows import TrainRow
from star1lib.training.sft import TrainConfig, train

MAX_TOKENS = 72
STAGE0, ANCHOR = "stage 0", "anchor"
ARITHMETIC, OWN = "made by code: worked arithmetic", "the model's own answer"
# Up to a full stop, question or exclamation mark that does not belong to a number of a list.
_SENTENCES = re.compile(r".*[^\d\s][.!?][\"')\]*]*(?=\s|$)", re.DOTALL)
_RESTATED = "The user says: {}"
_THINGS = ("shells", "stamps", "marbles", "books", "coins", "pencils", "cards", "plums", "buttons", "eggs")
_PEOPLE = ("Ines", "Tomas", "Mira", "Oskar", "Leila", "Paulo", "Yuki", "Nadia", "Kofi", "Greta")
_SUMS = ("Add {a} and {b}.", "Work out {a} + {b}.", "How much is {a} plus {b}?", "Calculate the sum of {a} and {b}.",
         "What is {a} + {b}?", "{a} + {b} = ?")  # fmt: skip
_DIFFERENCES = ("Take {b} from {a}.", "Work out {a} - {b}.", "How much is {a} minus {b}?", "What is {a} - {b}?")
_GAINS = (
    "{name} has {a} {things} and finds {b} more. How many {things} does {name} have now?",
    "There are {a} {things} in one box and {b} in another. How many {things} are there in all?",
    "{name} bought {a} {things} on Monday and {b} on Tuesday. How many {things} did {name} buy?",
)
_LOSSES = (
    "{name} has {a} {things} and gives {b} to a friend. How many {things} are left?",
    "A shop had {a} {things} and sold {b}. How many {things} does the shop still have?",
    "{name} had {a} {things} but lost {b} of them. How many {things} does {name} have now?",
)


def harmless() -> list[str]:
    """The harmless prompts of this repository, hand-written, in their order."""
    text = resources.files("star1lib").joinpath("assets/harmless.txt").read_text(encoding="utf-8")
    return text.splitlines()


def arithmetic(count: int, seed: int, taken: Collection[tuple[int, ...]] = (), *, least: int = 2) -> list[TrainRow]:
    """`count` different sums, differences and one-step stories of numbers from `least` to 99, worked in the thinking.

    No row has the two numbers of a pair in `taken` (in either order): embeddings call any two sums alike, so test
    questions are kept out by their numbers.
    """
    rng = random.Random(f"stage 0 arithmetic {seed}")
    apart = {tuple(sorted(pair)) for pair in taken}
    made: dict[str, TrainRow] = {}
    while len(made) < count:
        b, a = sorted((rng.randint(least, 99), rng.randint(least, 99)))
        if (b, a) in apart:
            continue
        sign = rng.choice("+-")
        if sign == "+" and rng.random() < 0.5:
            a, b = b, a
        form = rng.choice(rng.choice({"+": (_SUMS, _GAINS), "-": (_DIFFERENCES, _LOSSES)}[sign]))
        prompt = form.format(a=a, b=b, name=rng.choice(_PEOPLE), things=rng.choice(_THINGS))
        work, answer = worked(sign, a, b)
        completion = chat.join_thinking(work, f"The answer is {answer}.")
        row = TrainRow(id=question_id(prompt), prompt=prompt, completion=completion, source=ARITHMETIC, kind=STAGE0)
        made.setdefault(row.id, row)
    return list(made.values())


def worked(sign: str, a: int, b: int) -> tuple[str, int]:
    """The working of `a` + `b` or `a` - `b`, step by step, and its result."""
    tens, ones = b // 10 * 10, b % 10
    if sign == "-":
        steps = (
            f"{a} - {tens} = {a - tens}. {a - tens} - {ones} = {a - b}." if tens and ones else f"{a} - {b} = {a - b}."
        )
        return f"I take {b} from {a}. {steps}", a - b
    if a < 10 or b < 10:
        return f"I add {a} and {b}. {a} + {b} = {a + b}.", a + b
    both, rest = a // 10 * 10 + tens, a % 10 + ones
    steps = f"Tens: {a // 10 * 10} + {tens} = {both}. Ones: {a % 10} + {ones} = {rest}. {both} + {rest} = {a + b}."
    return f"I add {a} and {b}. {steps}", a + b


class Settings(Record):
    """How much stage 0 is trained on: `arithmetic` worked rows and the answers to `own` harmless prompts.

    `training` overrides the common settings of training.
    """

    arithmetic: int = Field(default=192, ge=0)
    own: int = Field(default=64, ge=0)
    training: dict[str, Any] = Field(default_factory=dict)


def reasoner(
    base: str,
    settings: Settings,
    prompts: Sequence[str],
    tests: Sequence[Question],
    folder: Path,
    config: TrainConfig,
    save_steps: int = 50,
) -> Path:
    """The checkpoint of the toy reasoning model made from `base`; its chat template opens the thinking.

    `prompts` are the harmless ones to answer; no sum has the two numbers of a question in `tests`.
    """
    thoughtful = [with_thought(row) for row in own_answers(base, prompts, cache=folder)]
    rows = [*arithmetic(settings.arithmetic, config.seed, _pairs(tests)), *thoughtful]
    return train("reasoner", rows, base, folder, config, save_steps=save_steps, thinking=True)


def own_answers(model: str, prompts: Sequence[str], cache: Path, max_tokens: int = MAX_TOKENS) -> list[TrainRow]:
    """The model's own greedy answers to `prompts`, up to the last sentence that ends within `max_tokens`.

    A model whose template opens the thinking gives thought and answer. Prompts that get no whole sentence are left out.
    Answers are kept in `cache` under a name that changes with weights, prompts and budget.
    """
    from star1lib.models import generate

    key = fingerprint([checkpoints.weights_fingerprint(model), list(prompts), max_tokens, generate.VERSION])
    path = cache / f"own-answers-{key}.jsonl"
    if path.exists():
        return read_records(path, TrainRow)
    net, tokenizer = checkpoints.load(model)
    thinks = chat.opens_thinking(tokenizer)
    asked = [chat.prompt_tokens(tokenizer, [{"role": "user", "content": text}], thinks) for text in prompts]
    stops = generate.stop_tokens(net, tokenizer)
    found = generate.generate(net, asked, generate.Settings(max_tokens), stop_ids=stops) if prompts else []
    made = []
    for prompt, result in zip(prompts, found, strict=True):
        said = chat.split_thinking(tokenizer.decode(result.tokens, skip_special_tokens=True), thinks)
        sentences = _SENTENCES.match(said.answer)
        if sentences and said.state != "open":
            completion = chat.join_thinking(said.thinking, sentences.group())
            made.append(TrainRow(id=question_id(prompt), prompt=prompt, completion=completion, source=OWN, kind=ANCHOR))
    write_jsonl(path, made)
    return made


def with_thought(row: TrainRow) -> TrainRow:
    """An answer of a plain model behind a thought that restates the request, as a row of stage 0."""
    completion = chat.join_thinking(f"{_RESTATED.format(row.prompt)} I will answer that.", row.completion)
    return row.model_copy(update={"completion": completion, "kind": STAGE0})


def in_its_words(row: TrainRow) -> TrainRow:
    """A row with a trace that begins as the toy model's own thinking does, and then turns to the policies.

    The paper's traces are of DeepSeek-R1, in the manner of the models distilled from it; those of another hand would
    have to displace the toy model's one way to begin before anything in them could be learnt.
    """
    said = chat.split_thinking(row.completion)
    thinking = f"{_RESTATED.format(row.prompt)} I check that against the policies. {said.thinking}"
    return row.model_copy(update={"completion": chat.join_thinking(thinking, said.answer)})


def more_sums(count: int, settings: Settings, seed: int, tests: Sequence[Question]) -> list[str]:
    """Prompts of `count` sums that neither stage 0 nor a question in `tests` has, for anchors of ability."""
    taken = _pairs(tests)
    seen = _pairs(arithmetic(settings.arithmetic, seed, taken))
    return [row.prompt for row in arithmetic(count, seed + 1, taken | seen)]


def _pairs(asked: Sequence[Question] | Sequence[TrainRow]) -> set[tuple[int, ...]]:
    texts = (one.text if isinstance(one, Question) else one.prompt for one in asked)
    return {pair for text in texts if len(pair := numbers(text)) == 2}


def numbers(text: str) -> tuple[int, ...]:
    """The whole numbers in a text, in their order."""
    return tuple(int(number) for number in re.findall(r"\d+", text))
