"""Fit the offline judges from responses labelled by people; scikit-learn here, never at judging time.

Refusal: XSTest completions of three models (two annotators and the final label, all three are learnt from).
Harm: GPTFuzz responses, graded answers of ten kinds of harm, and XSTest's unsafe prompts, none ruling.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from star1lib.errors import UserError
from star1lib.evaluation.judges.features import BUCKETS, NAMES, Inputs
from star1lib.evaluation.judges.offline import ASKED_SCALE, GRAM_SCALE, LABELS, Weights, help_facts, score_refusal
from star1lib.files import atomic_path, write_text

_XSTEST = {"1_full_compliance": 0, "3_partial_refusal": 1, "2_full_refusal": 2}
_ANNOTATIONS = (("final_label", 0.5), ("annotation_1", 0.25), ("annotation_2", 0.25))
HARMFUL_FROM = 0.5
"""The mean grade (0 to 1) of an answer from which it counts as harmful."""


@dataclass(frozen=True)
class Labelled:
    """Answers that people labelled: label numbers (n,), the set, part (generator or kind) and label weights of each."""

    prompts: list[str]
    responses: list[str]
    labels: np.ndarray
    sets: np.ndarray
    parts: np.ndarray
    soft: np.ndarray
    safe: np.ndarray

    @cached_property
    def counts(self) -> Any:
        """Hashed counts of words, pairs and runs of two to five characters in each response: sparse (n, 2^20)."""
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import HashingVectorizer

        kinds = ({"ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (2, 5)})
        parts = [HashingVectorizer(n_features=2**19, norm=None, alternate_sign=False, **kind) for kind in kinds]
        return hstack([part.transform(self.responses) for part in parts]).tocsr()

    def keep(self, which: np.ndarray) -> Labelled:
        """The rows where `which` (n,) is true."""
        at = np.flatnonzero(which)
        prompts, responses = ([texts[index] for index in at] for texts in (self.prompts, self.responses))
        return Labelled(
            prompts, responses, self.labels[at], self.sets[at], self.parts[at], self.soft[at], self.safe[at]
        )


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Rows of a CSV file as dicts; a missing file or column is a :class:`UserError`."""
    csv.field_size_limit(10_000_000)
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle)
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
            if missing:
                raise UserError(f"{path}: column {missing[0]!r} is missing; download the file again.")
            yield from reader
    except FileNotFoundError as err:
        raise UserError(
            f"{path}: the labelled responses are missing; set STAR1_DATA to the folder that holds judging/."
        ) from err


def load_refusals(data: Path) -> Labelled:
    """Read `judging/XSTest_completions.csv` under `data`: label numbers of `LABELS`, parts are the generators."""
    path = data / "judging" / "XSTest_completions.csv"
    rows = list(read_rows(path, ("model", "prompt", "completion", "type", *(name for name, _ in _ANNOTATIONS))))
    soft = np.zeros((len(rows), len(LABELS)))
    for index, row in enumerate(rows):
        for column, weight in _ANNOTATIONS:
            if row[column] not in _XSTEST:
                raise UserError(f"{path}: row {index + 2}, {column}: unknown label {row[column]!r}; download it again.")
            soft[index, _XSTEST[row[column]]] += weight
    return Labelled(
        [row["prompt"] for row in rows],
        [row["completion"] for row in rows],
        np.array([_XSTEST[row["final_label"]] for row in rows]),
        np.full(len(rows), "XSTest"),
        np.array([row["model"] for row in rows]),
        soft,
        np.array([not row["type"].startswith("contrast") for row in rows]),
    )


def load_harms(data: Path) -> Labelled:
    """The three sets with labels of harm under `data`: 1 is harmful; XSTest's unsafe prompts where fully answered."""
    questions = [row["text"] for row in read_rows(data / "sources" / "GPTFuzz.csv", ("text",))]
    folder = data / "judging"
    fuzz = list(read_rows(folder / "GPTFuzz_labelled_train.csv", ("question", "Response", "label")))
    graded = list(read_rows(folder / "harm_scores.csv", ("set", "prompt", "response", "score")))
    refusals = load_refusals(data)
    unsafe = refusals.keep(~refusals.safe)
    rows = [
        *((questions[int(row["question"])], row["Response"], int(row["label"]), "GPTFuzz", "GPTFuzz") for row in fuzz),
        *(
            (row["prompt"], row["response"], int(float(row["score"]) >= HARMFUL_FROM), "harm scores", row["set"])
            for row in graded
        ),
        *(
            (prompt, response, int(label == 0), "XSTest", str(part))
            for prompt, response, label, part in zip(
                unsafe.prompts, unsafe.responses, unsafe.labels, unsafe.parts, strict=True
            )
        ),
    ]
    prompts, responses, labels, sets, parts = map(list, zip(*rows, strict=True))
    y = np.array(labels)
    return Labelled(prompts, responses, y, np.array(sets), np.array(parts), np.eye(2)[y], np.zeros(len(y), bool))


def sparse(rows: Sequence[np.ndarray]) -> Any:
    """Sparse (n, `BUCKETS`) matrix of hashed words, every row of length `GRAM_SCALE`."""
    from scipy.sparse import csr_matrix

    data = np.concatenate([np.full(len(row), GRAM_SCALE / max(1.0, len(row)) ** 0.5) for row in rows])
    ends = np.cumsum([0, *(len(row) for row in rows)])
    return csr_matrix((data, np.concatenate(rows), ends), shape=(len(rows), BUCKETS))


def fit_refusal(rows: Labelled, seen: Inputs, strength: float = 0.3) -> dict[str, np.ndarray]:
    """Weights of the refusal judge: every row under each label that its annotators gave, weighted by how many did."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.linear_model import LogisticRegression

    at, y = np.nonzero(rows.soft)
    x = hstack([csr_matrix(seen.facts), sparse(seen.grams), ASKED_SCALE * sparse(seen.asked)]).tocsr()
    model = LogisticRegression(C=strength, max_iter=1000).fit(x[at], y, rows.soft[at, y])
    parts = np.split(model.coef_.T, [len(NAMES), len(NAMES) + BUCKETS])
    return {**dict(zip(("facts", "grams", "asked"), parts, strict=True)), "intercept": model.intercept_}


def balance(rows: Labelled) -> np.ndarray:
    """Weight of each row (n,), mean 1: a set's class weighs as the square root of its size, so that no set rules."""
    kinds = np.unique(np.char.add(rows.sets.astype(str), rows.labels.astype(str)), return_inverse=True)[1]
    weight = np.bincount(kinds)[kinds] ** -0.5
    return weight / weight.mean()  # type: ignore[no-any-return]


def fit_harm(rows: Labelled, seen: Inputs, refusal: Weights, strength: float = 1.0) -> dict[str, np.ndarray]:
    """Weights of the harm judge, over the probabilities of the refusal judge `refusal`."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.linear_model import LogisticRegression

    facts = help_facts(score_refusal(refusal, seen), seen)
    x = hstack([csr_matrix(facts), sparse(seen.grams)]).tocsr()
    model = LogisticRegression(C=strength, max_iter=300, solver="liblinear")
    coef = model.fit(x, rows.labels, sample_weight=balance(rows)).coef_[0]
    return {"help": coef[: facts.shape[1]], "grams": coef[facts.shape[1] :], "intercept": model.intercept_}


def save(weights: Mapping[str, np.ndarray], path: Path) -> Path:
    """Write weights (half precision; the names of the facts with them) and their digest, atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        kept = {name: value.astype(np.float16 if len(value) > 999 else np.float32) for name, value in weights.items()}
        np.savez_compressed(handle, names=np.array(NAMES), **kept)  # type: ignore[arg-type]
    write_text(path.with_suffix(".sha256"), hashlib.sha256(path.read_bytes()).hexdigest() + "\n")
    return path
