"""From collected questions to the pool (paper 2.1): near-copies and test overlaps leave, with evidence.

Source by source, in order: inside the source by word n-gram; then against the test questions and against all
that earlier sources kept, by 8-gram and by TF-IDF. Then over the union, greedily, by TF-IDF and by sentence
embedding; last against the test questions by sentence embedding. TF-IDF vectors are fitted on what is compared, so a
source added at the end changes nothing that earlier sources lost on their own. The reference keeps a random member of
an n-gram cluster; this keeps the first. A question shorter than n words has no n-gram: TF-IDF finds
its copies.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from star1lib.collection import dedup
from star1lib.files import fingerprint, read_json, read_records, sha256_file, verify_manifest, write_json, write_stage
from star1lib.models import embed
from star1lib.records import Example, Question, Removal, normalise
from star1lib.safeguards import short_prompt

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
    "TF-IDF against earlier sources",
    "TF-IDF over the union",
    "embedding over the union",
    "embedding against tests",
)


@dataclass(frozen=True)
class Thresholds:
    """From which similarity two questions are one; the defaults are the paper's."""

    tfidf: float = 0.6
    embedding: float = 0.7
    test_ngram: int = DEFAULT_NGRAM


PAPERS = Thresholds()


@dataclass(frozen=True)
class Decontaminated:
    """What is left, what left and why, the counts of every step per source, and what it was compared with."""

    kept: list[Question]
    removed: list[Removal]
    steps: list[dict[str, Any]]
    tests: list[Question]
    thresholds: Thresholds


def ngrams(text: str, n: int) -> set[tuple[str, ...]]:
    """Word n-grams of a text, lower case, words as the spaces part them; a shorter text has none."""
    words = tuple(normalise(text).split())
    return {words[start : start + n] for start in range(len(words) - n + 1)}


def decontaminate_folder(
    folder: str | Path, *, tfidf_threshold: float, embedding_threshold: float, test_ngram: int
) -> Decontaminated:
    """:func:`decontaminate` on what the sources stage wrote to `folder`."""
    thresholds = Thresholds(tfidf_threshold, embedding_threshold, test_ngram)
    pool, tests = (read_records(Path(folder) / f"{name}.jsonl", Question) for name in ("pool", "tests"))
    return decontaminate(pool, tests, thresholds)


def decontaminate(
    pool: Sequence[Question], tests: Sequence[Question], thresholds: Thresholds = PAPERS
) -> Decontaminated:
    """Run every step on `pool`, sources in order of appearance; nothing kept may come close to one of `tests`."""
    state = _State(tests, thresholds)
    by_source: dict[str, list[Question]] = {}
    for question in pool:
        by_source.setdefault(question.source, []).append(question)
    for questions in by_source.values():
        state.add_source(questions)
    state.over_union(STEPS[5], dedup.tfidf(_texts(state.left), thresholds.tfidf))
    vectors = embed.encode(_texts(state.left))
    alike = dedup.embedding(vectors, thresholds.embedding)
    state.over_union(STEPS[6], alike)
    kept = state.embedding_against_tests(state.left, vectors[alike.kept])
    steps = sorted(state.steps, key=lambda row: STEPS.index(row["step"]))
    return Decontaminated(kept, state.removed, steps, state.tests, thresholds)


def against_tests(
    rows: Sequence[Example], tests: Sequence[Question], thresholds: Thresholds = PAPERS
) -> tuple[list[Example], list[Removal]]:
    """Rows that lie within no threshold of a test question, in order, and why each of the others had to leave.

    For rows that do not come from the pool: released ones, benign variants. Their questions are compared as those of
    the pool are; every row of a question leaves with it.
    """
    state = _State(tests, thresholds)
    asked = {row.id: Question(id=row.id, text=row.question, source=row.source) for row in rows}
    kept = {question.id for question in state.against_tests(list(asked.values()))}
    return [row for row in rows if row.id in kept], state.removed


def near_tests(texts: Sequence[str], tests: Sequence[Question], cache: Path) -> set[int]:
    """Positions of the `texts` that lie within a threshold of a test question, compared once and kept in `cache`.

    Another way of comparing, an edit of this module or of :mod:`star1lib.collection.dedup`, compares again.
    """
    how = [sha256_file(Path(module)) for module in (__file__, dedup.__file__)]
    key = fingerprint([how, asdict(PAPERS), embed.MODEL, list(texts), _texts(tests)])
    path = cache / f"near-tests-{key}.json"
    if not path.exists():
        asked = [Question(id=str(place), text=text, source="text") for place, text in enumerate(texts)]
        apart = {question.id for question in _State(tests, PAPERS).against_tests(asked)}
        write_json(path, [int(question.id) for question in asked if question.id not in apart])
    return set(read_json(path))


def against_tests_of(folder: str | Path, rows: Sequence[Example]) -> tuple[list[Example], list[Removal]]:
    """:func:`against_tests` with the test questions and thresholds that the decontamination stage used in `folder`."""
    thresholds = Thresholds(**verify_manifest(Path(folder))["thresholds"])
    return against_tests(rows, read_records(Path(folder) / "tests.jsonl", Question), thresholds)


Gone = dict[int, tuple[Question, float | None]]


class _State:
    """The questions kept so far, and the log of those that left."""

    def __init__(self, tests: Sequence[Question], thresholds: Thresholds) -> None:
        self.tests, self.thresholds = list(tests), thresholds
        self.left: list[Question] = []
        self.removed: list[Removal] = []
        self.steps: list[dict[str, Any]] = []
        self.test_grams = _first_with(tests, thresholds.test_ngram)
        self.kept_grams: dict[tuple[str, ...], Question] = {}

    def close(self, step: str, questions: list[Question], gone: Gone) -> list[Question]:
        """The questions without those at the positions of `gone`, which are logged with partner and score."""
        before = Counter(question.source for question in questions)
        lost = Counter(questions[position].source for position in gone)
        self.steps += [
            {"step": step, "source": source, "before": count, "removed": lost[source], "after": count - lost[source]}
            for source, count in before.items()
        ]
        for position, (partner, score) in sorted(gone.items()):
            who = questions[position].model_dump(exclude={"meta"})
            self.removed.append(
                Removal(**who, step=step, partner_id=partner.id, partner_text=partner.text, score=score)
            )
        return [question for position, question in enumerate(questions) if position not in gone]

    def add_source(self, questions: list[Question]) -> None:
        """The steps that are run on one source after the other; what is left joins the kept ones."""
        size = NGRAM.get(questions[0].source, DEFAULT_NGRAM)
        questions = self.ngram(STEPS[0], questions, {}, size, within=True)
        questions = self.ngram(STEPS[1], questions, self.test_grams, self.thresholds.test_ngram)
        questions = self.ngram(STEPS[2], questions, self.kept_grams, DEFAULT_NGRAM)
        questions = self.tfidf_against(questions)
        for gram, question in _first_with(questions, DEFAULT_NGRAM).items():
            self.kept_grams.setdefault(gram, question)
        self.left += questions

    def against_tests(self, questions: list[Question]) -> list[Question]:
        """The questions that lie within no threshold of a test question."""
        if not self.tests:
            return questions
        left = self.tfidf_against(self.ngram(STEPS[1], questions, self.test_grams, self.thresholds.test_ngram))
        return self.embedding_against_tests(left, embed.encode(_texts(left)))

    def ngram(
        self, step: str, questions: list[Question], known: dict[tuple[str, ...], Question], n: int, within: bool = False
    ) -> list[Question]:
        """The questions that share no n-gram with the `known` ones; `within` a source these are the ones that stay."""
        gone: Gone = {}
        for position, question in enumerate(questions):
            grams = ngrams(question.text, n)
            if (partner := _sharing(grams, known)) is not None:
                gone[position] = (partner, None)
            elif within:
                known.update(dict.fromkeys(grams, question))
        return self.close(step, questions, gone)

    def tfidf_against(self, questions: list[Question]) -> list[Question]:
        """Against tests and kept ones in one space; the most similar of all says which of the two steps it is."""
        references = [*self.tests, *self.left]
        found = dedup.tfidf_near(_texts(questions), _texts(references), self.thresholds.tfidf)
        hits: Gone = {hit.index: (references[hit.partner], hit.score) for hit in found}
        is_test = {hit.index for hit in found if hit.partner < len(self.tests)}
        left = self.close(STEPS[3], questions, {place: hits[place] for place in is_test})
        places = [place for place in range(len(questions)) if place not in is_test]
        near_kept: Gone = {position: hits[place] for position, place in enumerate(places) if place in hits}
        return self.close(STEPS[4], left, near_kept)

    def over_union(self, step: str, found: dedup.Kept) -> None:
        """Of all that is left, what was `found` alike by one measure."""
        gone: Gone = {hit.index: (self.left[hit.partner], hit.score) for hit in found.removed}
        self.left = self.close(step, self.left, gone)

    def embedding_against_tests(self, questions: list[Question], vectors: np.ndarray) -> list[Question]:
        near: Gone = {}
        if self.tests and questions:
            tests = _encoded(embed.encode, tuple(_texts(self.tests))).astype(np.float64)
            for position, vector in enumerate(vectors.astype(np.float64)):
                scores = tests @ vector
                place = int(scores.argmax())
                if scores[place] >= self.thresholds.embedding - dedup.EPSILON:
                    near[position] = (self.tests[place], float(scores[place]))
        return self.close(STEPS[7], questions, near)


@functools.lru_cache(maxsize=4)
def _encoded(encode: Callable[[Sequence[str]], np.ndarray], texts: tuple[str, ...]) -> np.ndarray:
    """The embeddings of a run's test questions, which much is held against."""
    return encode(texts)


def _texts(questions: Sequence[Question]) -> list[str]:
    return [question.text for question in questions]


def _sharing(grams: set[tuple[str, ...]], known: Mapping[tuple[str, ...], Question]) -> Question | None:
    """The question that has the first of the `grams` that any has."""
    return next((known[gram] for gram in sorted(grams) if gram in known), None)


def _first_with(questions: Sequence[Question], n: int) -> dict[tuple[str, ...], Question]:
    """Each n-gram and the first question that has it."""
    return {gram: question for question in reversed(questions) for gram in ngrams(question.text, n)}


def pairs(result: Decontaminated, per_step: int = 4) -> list[dict[str, Any]]:
    """A few removed questions of each step beside their partners, the closest calls first; prompts shortened."""
    rows = []
    for step in STEPS:
        mine = sorted((r for r in result.removed if r.step == step), key=lambda r: (r.score or 0.0, r.id))
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


def write(result: Decontaminated, folder: str | Path) -> None:
    """Write kept questions, the removal log, the counts and what was compared with, manifest last."""
    files = {
        "kept.jsonl": result.kept,
        "removed.jsonl": result.removed,
        "decontamination.json": result.steps,
        "tests.jsonl": result.tests,
    }
    facts = {"kept": len(result.kept), "removed": len(result.removed), "thresholds": asdict(result.thresholds)}
    write_stage(Path(folder), files, **facts)
