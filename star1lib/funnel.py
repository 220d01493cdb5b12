"""The funnel from collected questions to the pool (paper 2.1): near-copies and test overlaps leave, with evidence.

Steps, in this order: inside each source by word n-gram; by 8-gram against the test questions and against
earlier sources; by TF-IDF against the test questions; over the union greedily by TF-IDF (which also
compares with everything kept before, once, and not source by source as the paper) and by sentence
embedding; last against the test questions by sentence embedding. The reference keeps a random member of an n-gram
cluster; this keeps the first. A question shorter than n words is one n-gram, itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dedup, embed
from .io import read_records, write_stage
from .records import Question, Removal, normalise
from .redact import short_prompt

if TYPE_CHECKING:
    Encode = Callable[[Sequence[str]], np.ndarray]

DEFAULT_NGRAM = 8
NGRAM = {
    "AttaQ": 7,
    "HarmfulQA": 7,
    "SafetyInstructions": 7,
    "UltraSafety": 7,
    "ALERT": 7,
    "PKU-SafeRLHF": 6,
    "BeaverTails": 5,
    "WildJailbreak": 5,
}
STEPS = (
    "n-gram within source",
    "n-gram against tests",
    "n-gram against earlier sources",
    "TF-IDF against tests",
    "TF-IDF over the union",
    "embedding over the union",
    "embedding against tests",
)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Config:
    """Thresholds of the funnel; the defaults are the paper's."""

    tfidf_threshold: float = 0.6
    embedding_threshold: float = 0.7
    test_ngram: int = DEFAULT_NGRAM


@dataclass(frozen=True)
class Funnel:
    """What is left, what left and why, and the counts of every step per source."""

    kept: list[Question]
    removed: list[Removal]
    steps: list[dict[str, Any]]


def ngrams(text: str, n: int) -> set[tuple[str, ...]]:
    """Word n-grams of a text, lower case, punctuation aside; a shorter text is one n-gram, none of an empty one."""
    words = tuple(_WORD.findall(normalise(text)))
    if len(words) <= n:
        return {words} if words else set()
    return {words[start : start + n] for start in range(len(words) - n + 1)}


def dedupe_folder(
    folder: str | Path,
    *,
    tfidf_threshold: float,
    embedding_threshold: float,
    test_ngram: int,
    encode: Encode | None = None,
) -> Funnel:
    """The funnel on what the sources stage wrote to `folder`."""
    folder = Path(folder)
    config = Config(tfidf_threshold, embedding_threshold, test_ngram)
    pool = read_records(folder / "pool.jsonl", Question)
    return dedupe(pool, read_records(folder / "tests.jsonl", Question), config, encode)


def dedupe(
    pool: Sequence[Question], tests: Sequence[Question], config: Config | None = None, encode: Encode | None = None
) -> Funnel:
    """Run every step on `pool` in source order; `tests` are the questions that nothing may come close to."""
    state = _State(list(pool), list(tests), config or Config())
    state.ngram_within_sources()
    state.ngram_against_tests()
    state.ngram_against_earlier()
    state.tfidf_against_tests()
    state.tfidf_over_union()
    state.by_embedding(encode or embed.encode)
    return Funnel(state.left, state.removed, state.steps)


class _State:
    """The questions still in, and the log of those that left."""

    def __init__(self, pool: list[Question], tests: list[Question], config: Config) -> None:
        self.left, self.tests, self.config = pool, tests, config
        self.removed: list[Removal] = []
        self.steps: list[dict[str, Any]] = []

    def close(self, step: str, gone: dict[int, tuple[Question, float | None]]) -> None:
        """Take the questions at the positions of `gone` out, each with its partner and score."""
        before = Counter(question.source for question in self.left)
        lost = Counter(self.left[position].source for position in gone)
        self.steps += [
            {"step": step, "source": source, "before": count, "removed": lost[source], "after": count - lost[source]}
            for source, count in before.items()
        ]
        for position, (partner, score) in sorted(gone.items()):
            question = self.left[position]
            self.removed.append(
                Removal(
                    id=question.id,
                    text=question.text,
                    source=question.source,
                    step=step,
                    partner_id=partner.id,
                    partner_text=partner.text,
                    score=score,
                )
            )
        self.left = [question for position, question in enumerate(self.left) if position not in gone]

    def ngram_within_sources(self) -> None:
        seen: dict[str, dict[tuple[str, ...], Question]] = {}
        gone: dict[int, tuple[Question, float | None]] = {}
        for position, question in enumerate(self.left):
            known = seen.setdefault(question.source, {})
            grams = ngrams(question.text, NGRAM.get(question.source, DEFAULT_NGRAM))
            partner = next((known[gram] for gram in sorted(grams) if gram in known), None)
            if partner is None:
                known.update(dict.fromkeys(grams, question))
            else:
                gone[position] = (partner, None)
        self.close(STEPS[0], gone)

    def ngram_against_tests(self) -> None:
        n = self.config.test_ngram
        known = {gram: test for test in reversed(self.tests) for gram in ngrams(test.text, n)}
        gone: dict[int, tuple[Question, float | None]] = {}
        for position, question in enumerate(self.left):
            partner = next((known[gram] for gram in sorted(ngrams(question.text, n)) if gram in known), None)
            if partner is not None:
                gone[position] = (partner, None)
        self.close(STEPS[1], gone)

    def ngram_against_earlier(self) -> None:
        known: dict[tuple[str, ...], Question] = {}
        gone: dict[int, tuple[Question, float | None]] = {}
        for position, question in enumerate(self.left):
            grams = ngrams(question.text, DEFAULT_NGRAM)
            partner = next((known[g] for g in sorted(grams) if g in known and known[g].source != question.source), None)
            if partner is None:
                for gram in grams:
                    known.setdefault(gram, question)
            else:
                gone[position] = (partner, None)
        self.close(STEPS[2], gone)

    def tfidf_against_tests(self) -> None:
        texts = [question.text for question in (*self.tests, *self.left)]
        matrix = dedup.tfidf_matrix(texts)
        count = len(self.tests)
        gone: dict[int, tuple[Question, float | None]] = {}
        if count and self.left:
            bar = self.config.tfidf_threshold - dedup.EPSILON
            tests = matrix[:count].T.tocsc()
            for start in range(0, len(self.left), 2048):
                products = (matrix[count + start : count + start + 2048] @ tests).tocsr()
                for row in range(products.shape[0]):
                    scores = products.data[products.indptr[row] : products.indptr[row + 1]]
                    if len(scores) and scores.max() >= bar:
                        place = products.indices[products.indptr[row] + int(scores.argmax())]
                        gone[start + row] = (self.tests[int(place)], float(scores.max()))
        self.close(STEPS[3], gone)

    def tfidf_over_union(self) -> None:
        found = dedup.tfidf([question.text for question in self.left], self.config.tfidf_threshold)
        self.close(STEPS[4], {hit.index: (self.left[hit.partner], hit.score) for hit in found.removed})

    def by_embedding(self, encode: Encode) -> None:
        vectors = encode([question.text for question in self.left])
        found = dedup.embedding(vectors, self.config.embedding_threshold)
        self.close(STEPS[5], {hit.index: (self.left[hit.partner], hit.score) for hit in found.removed})
        vectors = vectors[found.kept]
        gone: dict[int, tuple[Question, float | None]] = {}
        if self.tests and self.left:
            tests = encode([test.text for test in self.tests]).astype(np.float64)
            for position, vector in enumerate(vectors.astype(np.float64)):
                scores = tests @ vector
                place = int(scores.argmax())
                if scores[place] >= self.config.embedding_threshold - dedup.EPSILON:
                    gone[position] = (self.tests[place], float(scores[place]))
        self.close(STEPS[6], gone)


def table(funnel: Funnel) -> list[dict[str, Any]]:
    """Counts per step and source: step, source, before, removed, after."""
    return funnel.steps


def pairs(funnel: Funnel, per_step: int = 4) -> list[dict[str, Any]]:
    """A few removed questions of each step beside their partners, the closest calls first; prompts shortened."""
    rows = []
    for step in STEPS:
        mine = sorted((r for r in funnel.removed if r.step == step), key=lambda r: (r.score or 0.0, r.id))
        rows += [
            {
                "step": step,
                "source": removal.source,
                "removed": short_prompt(removal.text),
                "partner": short_prompt(removal.partner_text or ""),
                "score": "" if removal.score is None else round(removal.score, 3),
            }
            for removal in mine[:per_step]
        ]
    return rows


def write(funnel: Funnel, folder: str | Path) -> None:
    """Write kept questions, the removal log and the counts, manifest last."""
    files = {"kept.jsonl": funnel.kept, "removed.jsonl": funnel.removed, "funnel.json": funnel.steps}
    write_stage(Path(folder), files, kept=len(funnel.kept), removed=len(funnel.removed))
