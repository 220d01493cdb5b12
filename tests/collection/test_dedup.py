"""Greedy dedup equals its definition, on ordinary and on odd text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star1lib.collection import dedup

WORDS = ("how", "make", "bomb", "home", "safe", "child", "école", "naïve", "数据", "🙂", "x", "to", "the", "a", "what")
TEXT = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join),
    st.text(max_size=12),
    st.just("word " * 400),
    st.just(""),
)


def oracle(similarity: np.ndarray, threshold: float) -> list[int]:
    """The definition: keep a row unless a row kept before it is too similar."""
    kept: list[int] = []
    for row in range(len(similarity)):
        if not any(similarity[row, other] >= threshold - dedup.EPSILON for other in kept):
            kept.append(row)
    return kept


def dense(texts: Sequence[str]) -> np.ndarray:
    matrix = dedup.tfidf_matrix(texts)
    return (matrix @ matrix.T).toarray()


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(TEXT, max_size=25), threshold=st.sampled_from([0.3, 0.6, 0.9, 1.0]))
def test_tfidf_is_the_definition(texts: list[str], threshold: float) -> None:
    assert dedup.tfidf(texts, threshold).kept == oracle(dense(texts), threshold)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 60), threshold=st.sampled_from([0.2, 0.7, 0.95]))
def test_embedding_is_the_definition(seed: int, count: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 6)).astype(np.float32)
    if count > 4:
        vectors[count // 2] = vectors[0]
        vectors[count // 3] = 0
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1)
    safe = np.where(norms > 0, norms, 1)
    similarity = (wide @ wide.T) / np.outer(safe, safe) if count else np.zeros((0, 0))
    assert dedup.embedding(vectors, threshold).kept == oracle(similarity, threshold)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(0, 8))) for _ in range(120)]
    vectors = rng.normal(size=(200, 4))
    whole = dedup.tfidf(texts, 0.6), dedup.embedding(vectors, 0.9).kept
    monkeypatch.setattr(dedup, "_BLOCK", 7)
    assert (dedup.tfidf(texts, 0.6), dedup.embedding(vectors, 0.9).kept) == whole


def test_first_come_first_kept_and_every_removal_has_a_kept_partner() -> None:
    texts = ["how to bake bread", "something else entirely", "how to bake bread", "How to bake BREAD!", "", ""]
    found = dedup.tfidf(texts)
    assert found.kept == [0, 1, 4, 5]
    assert [(hit.index, hit.partner) for hit in found.removed] == [(2, 0), (3, 0)]
    assert all(hit.score >= 0.6 for hit in found.removed)
    assert dedup.tfidf([]).kept == []
    assert dedup.embedding(np.zeros((3, 5))).kept == [0, 1, 2]


@settings(max_examples=100, deadline=None)
@given(
    references=st.lists(TEXT, max_size=12),
    texts=st.lists(TEXT, max_size=12),
    threshold=st.sampled_from([0.3, 0.6, 1.0]),
)
def test_near_a_reference_is_the_definition(references: list[str], texts: list[str], threshold: float) -> None:
    similarity = dense([*references, *texts])[len(references) :, : len(references)]
    reached = similarity >= threshold - dedup.EPSILON
    found = dedup.tfidf_near(texts, references, threshold)
    assert [hit.index for hit in found] == [row for row in range(len(texts)) if reached[row].any()]
    for hit in found:
        assert hit.score == pytest.approx(similarity[hit.index].max())
        assert similarity[hit.index, hit.partner] == pytest.approx(hit.score)
