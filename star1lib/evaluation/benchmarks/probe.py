"""A seeded arithmetic probe for models too small for the real sets: four kinds of small sums in equal shares.

The base model of the default profile gets part of each kind right, so a change shows in either direction.
"""

from __future__ import annotations

import random
from pathlib import Path

from star1lib.evaluation.benchmarks.common import Benchmark
from star1lib.evaluation.benchmarks.mathematics import FORCED, NUMBER
from star1lib.records import Question

SIZE = 400
KINDS = ("one-digit sums", "one-digit products", "one-step stories about apples", "two-digit sums")
_NAMES = ("Ada", "Ben", "Chen", "Dora", "Emil", "Fatou", "Gus", "Hana")


def make(kind: str, rng: random.Random) -> tuple[str, int]:
    """One question of a kind and its answer."""
    if kind == KINDS[0]:
        a, b = rng.randint(1, 9), rng.randint(1, 9)
        return f"What is {a} + {b}?", a + b
    if kind == KINDS[1]:
        a, b = rng.randint(2, 9), rng.randint(2, 9)
        return f"What is {a} times {b}?", a * b
    if kind == KINDS[2]:
        a, b, name = rng.randint(3, 12), rng.randint(1, 9), rng.choice(_NAMES)
        if rng.random() < 0.5 and a > b:
            return f"{name} has {a} apples and gives away {b}. How many apples are left?", a - b
        return f"{name} has {a} apples and buys {b} more. How many apples does {name} have now?", a + b
    a, b = rng.randint(11, 89), rng.randint(11, 89)
    return f"What is {a} + {b}?", a + b


def load(mirror: Path | None = None) -> list[Question]:
    """The whole probe, each question once, the kinds in turn; the same on every machine."""
    rng = random.Random("arithmetic probe")
    questions: dict[str, Question] = {}
    tries = 0
    while len(questions) < SIZE and tries < 50 * SIZE:
        kind = KINDS[tries % len(KINDS)]
        tries += 1
        text, answer = make(kind, rng)
        question = Question.make(text, "Probe", kind=kind, answer=answer)
        questions.setdefault(question.id, question)
    return list(questions.values())


def balanced(questions: list[Question], seed: int) -> list[Question]:
    """The questions with the kinds taking turns, so that any head of the list has equal shares."""
    by_kind = [[question for question in questions if question.meta["kind"] == kind] for kind in KINDS]
    for kind in by_kind:
        random.Random(seed).shuffle(kind)
    longest = max(map(len, by_kind))
    return [kind[turn] for turn in range(longest) for kind in by_kind if turn < len(kind)]


PROBE = Benchmark("Probe", "reasoning", (NUMBER,), source=load, prepare=balanced, forced=FORCED)
