"""The bill before the run: calls, tokens, price and hours of each stage, from the real prompts.

Input is counted on the prompts themselves, by a tokenizer when one is given and otherwise by a rule
of characters per token; output cannot be known beforehand and is an expected length per call.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from star1lib.deliberation import prompts
from star1lib.deliberation.prompts import Messages
from star1lib.errors import UserError
from star1lib.models.roles import LOCAL, Price, Role
from star1lib.policies import CATEGORIES

Counter = Callable[[str], int]

# English prompts of this project have 4.1 to 4.9 characters per token of SmolLM2's tokenizer.
CHARS_PER_TOKEN = 4.0
RULE = f"{CHARS_PER_TOKEN:g} characters per token"
TOKENS_PER_MESSAGE = 4
# What one hosted call is assumed to take, and how many are open at once where the role does not say.
TOKENS_PER_SECOND = 50.0
SECONDS_TO_FIRST_TOKEN = 1.0
CONNECTIONS = 20
# Mean characters in the published 1,000 rows: thinking and answer of the teacher.
THINKING_CHARS, ANSWER_CHARS = 1347, 474
_SAMPLE = 400


@dataclass(frozen=True)
class Stage:
    """Calls of one kind: the prompts (or an even sample of them, with `calls` as the true number).

    `output_tokens` is the expected length of an answer, thinking included, in tokens.
    """

    name: str
    role: str
    prompts: Sequence[Messages]
    output_tokens: float
    calls: int | None = None


@dataclass(frozen=True)
class Bill:
    """What a stage takes: tokens in total, USD (None without a known price), and hours."""

    stage: str
    role: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    price_usd: float | None
    hours: float
    counted_by: str

    def row(self) -> dict[str, Any]:
        """The bill as a table row."""
        return dict(self.__dict__)


def estimate(
    stages: Sequence[Stage],
    prices: Mapping[str, Price | Mapping[str, float]],
    roles: Mapping[str, Role],
    counter: Counter | None = None,
    counted_by: str = "a tokenizer",
) -> list[Bill]:
    """One :class:`Bill` per stage; `prices` maps a model to USD per million tokens, `counter` counts tokens.

    Raises :class:`UserError` for a stage whose role the profile does not have.
    """
    count = counter or _by_rule
    table = {model: price if isinstance(price, Price) else Price(**price) for model, price in prices.items()}
    return [_bill(stage, roles, table, count, counted_by if counter else RULE) for stage in stages]


def _by_rule(text: str) -> int:
    return -(-len(text) // int(CHARS_PER_TOKEN))


def _bill(stage: Stage, roles: Mapping[str, Role], prices: Mapping[str, Price], count: Counter, how: str) -> Bill:
    if stage.role not in roles:
        raise UserError(f"stage '{stage.name}': the profile has no role '{stage.role}'; add it under 'roles:'.")
    role = roles[stage.role]
    sizes = [sum(TOKENS_PER_MESSAGE + count(message["content"]) for message in prompt) for prompt in stage.prompts]
    calls = len(sizes) if stage.calls is None else stage.calls
    tokens_in = calls * sum(sizes) / len(sizes) if sizes else 0.0
    expected = min(stage.output_tokens, role.max_tokens)
    tokens_out = calls * expected
    price = role.price or prices.get(role.model) or (Price(input=0, output=0) if role.provider in LOCAL else None)
    cost = price.cost(tokens_in, tokens_out) if price else None
    hours = _hours(role, calls, expected)
    totals = calls, round(tokens_in), round(tokens_out)
    return Bill(stage.name, role.name, role.model, *totals, cost, hours, how)


def _hours(role: Role, calls: int, output: float) -> float:
    """Hours of a stage by the number of calls that are open at once."""
    latency = SECONDS_TO_FIRST_TOKEN + output / TOKENS_PER_SECOND
    return calls * latency / (role.max_connections or CONNECTIONS) / 3600


def method_stages(
    questions: Sequence[str],
    pool: int | None = None,
    selected: int = 1000,
    traces: Sequence[tuple[str, str]] = (),
) -> list[Stage]:
    """The calls of sections 2.2, 2.3 and 4.3 for a pool of questions, built by the real prompt functions.

    `questions` are the pool or a sample of it, `pool` its true size, `selected` how many questions get a
    benign variant. `traces` are (thinking, answer) pairs to take lengths from; without them text of the
    published rows' mean length stands in. Categories are not known yet: one policy each, two for every third.
    """
    if not questions:
        raise UserError("estimate: there are no questions to count on; run the collection first.")
    total = len(questions) if pool is None else pool
    step = max(1, len(questions) // _SAMPLE)
    sample = list(questions[::step])[:_SAMPLE]
    variants = min(selected, total)
    pairs = itertools.cycle(traces or [("x" * THINKING_CHARS, "x" * ANSWER_CHARS)])
    answers = [next(pairs) for _ in sample]
    length = sum(len(thinking) + len(answer) for thinking, answer in answers) / len(answers) / CHARS_PER_TOKEN
    tagged = list(zip(sample, _categories(), strict=False))
    scored = [prompts.score(q, tags, *answer) for (q, tags), answer in zip(tagged, answers, strict=True)]
    benign = [prompts.score_benign(q, *answer) for q, answer in zip(sample, answers, strict=True)]
    words = sum(len(q) for q in sample) / len(sample) / CHARS_PER_TOKEN
    return [
        Stage("tag", "classifier", [prompts.classify(q) for q in sample], 20, total),
        Stage("deliberate", "teacher", [prompts.deliberate(q, tags) for q, tags in tagged], length, total),
        Stage("score", "scorer", scored, 22, total),
        Stage("rewrite", "benign_rewriter", [prompts.rewrite_benign(q) for q in sample], words + 8, variants),
        Stage("answer benign variants", "teacher", [prompts.answer_benign(q) for q in sample], length, variants),
        Stage("score benign variants", "benign_scorer", benign, 20, variants),
    ]


def _categories() -> Iterator[list[str]]:
    for number in itertools.count():
        first = number % len(CATEGORIES)
        yield [CATEGORIES[first], CATEGORIES[first - 1]] if number % 3 == 0 else [CATEGORIES[first]]


def table(bills: Sequence[Bill]) -> str:
    """The bills as a Markdown table with a total, and a note on how tokens were counted."""
    head = "| stage | role | model | calls | input tokens | output tokens | USD | hours |"
    lines = [head, "|---|---|---|--:|--:|--:|--:|--:|"]
    for bill in bills:
        cells = [bill.stage, bill.role, bill.model, f"{bill.calls:,}", f"{bill.input_tokens:,}"]
        cells += [f"{bill.output_tokens:,}", _usd(bill.price_usd), f"{bill.hours:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    sums = [sum(getattr(bill, name) for bill in bills) for name in ("calls", "input_tokens", "output_tokens")]
    full = sum(bill.price_usd or 0.0 for bill in bills)
    cells = ["total", "", "", *(f"{value:,}" for value in sums), _usd(full)]
    lines.append("| " + " | ".join([*cells, f"{sum(bill.hours for bill in bills):.2f}"]) + " |")
    notes = [f"Input tokens counted by {how}." for how in sorted({bill.counted_by for bill in bills})]
    if unknown := sorted({bill.model for bill in bills if bill.price_usd is None}):
        notes.append(f"No price known for {', '.join(unknown)}: add it under 'prices:'; the total leaves it out.")
    notes.append(f"Hours assume {TOKENS_PER_SECOND:g} tokens a second per call, and max_connections calls at once.")
    return "\n".join([*lines, "", *notes])


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"
