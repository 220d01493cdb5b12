"""Greedy deduplication, first come first kept, exactly as defined and without an N x N matrix (paper 2.1).

A text is removed when its similarity to a text kept before it reaches the threshold. TF-IDF: rows of
scikit-learn's `TfidfVectorizer` over all texts, cosine in double precision; a text without a word is
similar to nothing. Embeddings: cosine of the given vectors. Similarities within `EPSILON` below the
threshold count as reaching it, so that rounding in the last bits decides nothing.

How it scales: terms are ordered from rare to common, and each row is cut to the head of its terms, so long that
what is left out has a norm below `_REST`. A sparse product of heads, block by block against the heads of the rows
kept so far, bounds every cosine from above; only pairs whose bound reaches the threshold are compared in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

EPSILON = 1e-9
_BLOCK = 1024
_REST = 0.4


@dataclass(frozen=True)
class Removed:
    """An index that left, the kept index it collided with, and their similarity."""

    index: int
    partner: int
    score: float


@dataclass(frozen=True)
class Kept:
    """Kept indices in order, and every removed one with its partner."""

    kept: list[int]
    removed: list[Removed]


def greedy_tfidf(texts: Sequence[str], threshold: float = 0.6) -> list[int]:
    """Indices kept by the greedy TF-IDF rule, in order."""
    return tfidf(texts, threshold).kept


def greedy_embedding(vectors: np.ndarray, threshold: float = 0.7) -> list[int]:
    """Indices kept by the greedy cosine rule on `vectors`, float, shape (n, d); zero vectors are similar to nothing."""
    return embedding(vectors, threshold).kept


def tfidf_matrix(texts: Sequence[str]) -> Any:
    """Rows of length one as a CSR matrix in double precision; all zero for a text without words."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not texts:
        return csr_matrix((0, 0), dtype=np.float64)
    try:
        return TfidfVectorizer().fit_transform(texts).astype(np.float64)
    except ValueError:  # no text has a word
        return csr_matrix((len(texts), 1), dtype=np.float64)


def tfidf(texts: Sequence[str], threshold: float = 0.6) -> Kept:
    """The greedy TF-IDF rule with the partner of every removed text: its most similar kept predecessor."""
    return _sparse_greedy(tfidf_matrix(texts), threshold)


def tfidf_near(texts: Sequence[str], references: Sequence[str], threshold: float = 0.6) -> list[Removed]:
    """Texts whose TF-IDF cosine with a reference reaches the threshold, each with its most similar reference.

    The vectors are fitted on references and texts together; `index` counts texts, `partner` references.
    """
    first = len(references)
    index = _Index(tfidf_matrix([*references, *texts]), threshold)
    index.add(np.arange(first))
    found: list[Removed] = []
    for start in range(first, first + len(texts), _BLOCK):
        near = index.nearest(np.arange(start, min(start + _BLOCK, first + len(texts))))
        found += [Removed(row - first, partner, score) for row, (score, partner) in sorted(near.items())]
    return found


def _sparse_greedy(matrix: Any, threshold: float) -> Kept:
    """The greedy rule on rows of length one (or zero)."""
    index = _Index(matrix, threshold)
    kept: list[int] = []
    removed: list[Removed] = []
    for start in range(0, matrix.shape[0], _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, matrix.shape[0]))
        best = index.nearest(rows)
        inside = index.inside(rows[[row not in best for row in rows.tolist()]])
        fresh: list[int] = []
        for row in rows.tolist():
            # A row that is out already needs no partner of its own block; one still in looks at the kept ones there.
            for partner, score in inside.get(row, []):
                if partner not in best and score > best.get(row, (-2.0, -1))[0]:
                    best[row] = (score, partner)
            if row in best:
                removed.append(Removed(row, best[row][1], best[row][0]))
            else:
                fresh.append(row)
        kept += fresh
        index.add(np.array(fresh, dtype=np.int64))
    return Kept(kept, removed)


class _Index:
    """Rows of a matrix that later rows are compared with, in a few segments of growing size."""

    def __init__(self, matrix: Any, threshold: float) -> None:
        self.bar = threshold - EPSILON
        self.heads = _heads(_rare_terms_first(matrix), min(_REST, max(self.bar, 0.0))) if matrix.shape[0] else None
        self.segments: list[_Segment] = []

    def add(self, rows: np.ndarray) -> None:
        """Add rows; merge while the last segment is not much smaller than the one before, so that few remain."""
        if self.heads is None or not len(rows):
            return
        while self.segments and 2 * len(rows) > len(self.segments[-1].rows):
            rows = np.concatenate([self.segments.pop().rows, rows])
        self.segments.append(_segment(self.heads, rows))

    def nearest(self, rows: np.ndarray) -> dict[int, tuple[float, int]]:
        """The best cosine and its row of the index, for each of `rows` that reaches the bar."""
        best: dict[int, tuple[float, int]] = {}
        for segment in self.segments:
            assert self.heads is not None
            found = _near(self.heads, rows, segment, self.bar)
            for row, partner, score in zip(*(part.tolist() for part in found), strict=True):
                if score > best.get(row, (-2.0, -1))[0]:
                    best[row] = (score, partner)
        return best

    def inside(self, rows: np.ndarray) -> dict[int, list[tuple[int, float]]]:
        """For each of `rows` the earlier ones among them that reach the bar, with their cosines."""
        assert self.heads is not None
        near: dict[int, list[tuple[int, float]]] = {}
        found = _near(self.heads, rows, _segment(self.heads, rows), self.bar)
        for row, partner, score in zip(*(part.tolist() for part in found), strict=True):
            near.setdefault(row, []).append((partner, score))
        return near


@dataclass(frozen=True)
class _Heads:
    """All rows with rare terms first, their heads in single precision, and the norm of what each head leaves out."""

    matrix: Any
    heads: Any
    rest: np.ndarray


@dataclass(frozen=True)
class _Segment:
    """Some kept rows: their indices in order and their heads, transposed."""

    rows: np.ndarray
    columns: Any


def _segment(heads: _Heads, rows: np.ndarray) -> _Segment:
    return _Segment(rows, heads.heads[rows].T.tocsr())


def _rare_terms_first(matrix: Any) -> Any:
    """Columns reordered from the rarest term to the commonest, column indices sorted within rows."""
    frequency = np.bincount(matrix.indices, minlength=matrix.shape[1])
    rank = np.empty(matrix.shape[1], dtype=matrix.indices.dtype)
    rank[np.argsort(frequency, kind="stable")] = np.arange(matrix.shape[1], dtype=matrix.indices.dtype)
    reordered = matrix.copy()
    reordered.indices = rank[matrix.indices]
    reordered.has_sorted_indices = False
    reordered.sort_indices()
    return reordered


def _heads(matrix: Any, rest: float) -> _Heads:
    """Each row cut to the fewest rare terms such that the norm of the others is below `rest`.

    Of two rows, take the one whose head ends earlier in the order of terms. All that the product of heads misses of
    their cosine lies in that row's others, and the other row has length one: so the cosine is at most the product of
    heads plus the larger of the two norms left out.
    """
    from scipy.sparse import csr_matrix

    total = np.concatenate([[0.0], np.cumsum(matrix.data**2)])
    ends = total[matrix.indptr[1:]]
    owner = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    # The slack covers the rounding of the running sum: a head may be a term longer than needed, never shorter.
    keep = ends[owner] - total[:-1] >= rest**2 - 1e-7
    counts = np.bincount(owner[keep], minlength=matrix.shape[0])
    indptr = np.concatenate([[0], np.cumsum(counts)])
    heads = csr_matrix((matrix.data[keep].astype(np.float32), matrix.indices[keep], indptr), shape=matrix.shape)
    left_out = np.sqrt(np.maximum(ends - total[matrix.indptr[:-1] + counts], 0.0) + 1e-9)
    return _Heads(matrix, heads, left_out.astype(np.float32))


def _near(heads: _Heads, rows: np.ndarray, segment: _Segment, bar: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, partners before them in `segment`, and their cosines, for every pair whose cosine reaches `bar`."""
    empty = np.empty(0, dtype=np.int64)
    if not len(rows) or not len(segment.rows):
        return empty, empty, np.empty(0)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [(empty, empty, np.empty(0))]
    for part in _parts(heads.heads[rows], segment.columns):
        product = heads.heads[rows[part]] @ segment.columns
        left = np.repeat(rows[part], np.diff(product.indptr))
        right = segment.rows[product.indices]
        # 1e-5: single precision of the product.
        bound = product.data + np.maximum(heads.rest[left], heads.rest[right])
        possible = (bound >= bar - 1e-5) & (right < left)
        left, right = left[possible], right[possible]
        for start in range(0, len(left), 100_000):
            a, b = left[start : start + 100_000], right[start : start + 100_000]
            scores = _cosines(heads.matrix, a, b)
            found.append((a[scores >= bar], b[scores >= bar], scores[scores >= bar]))
    first, second, third = zip(*found, strict=True)
    order = np.lexsort((np.concatenate(second), np.concatenate(first)))
    return np.concatenate(first)[order], np.concatenate(second)[order], np.concatenate(third)[order]


def _parts(rows: Any, columns: Any, limit: int = 8_000_000) -> list[slice]:
    """Slices of `rows` whose product with `columns` has at most about `limit` entries, so that memory is bounded."""
    lengths = np.diff(columns.indptr)[rows.indices]
    cost = np.concatenate([[0], np.cumsum(lengths)])[rows.indptr]
    cuts = np.searchsorted(cost, np.arange(limit, cost[-1] + limit, limit)) if cost[-1] else np.array([len(cost) - 1])
    edges = sorted({0, len(cost) - 1, *np.clip(cuts, 1, len(cost) - 1).tolist()})
    return [slice(a, b) for a, b in pairwise(edges)]


def _cosines(matrix: Any, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Dot products of the rows `left` with the rows `right`, pair by pair, in double precision."""
    lengths = np.diff(matrix.indptr)[left].astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths) + np.repeat(matrix.indptr[left], lengths)
    others = np.asarray(matrix[np.repeat(right, lengths), matrix.indices[places]]).ravel()
    return np.add.reduceat(others * matrix.data[places], starts[:-1]) if len(places) else np.zeros(len(left))


def embedding(vectors: np.ndarray, threshold: float = 0.7) -> Kept:
    """The greedy cosine rule with partners: blocks of products in double precision with the rows kept so far."""
    vectors = np.asarray(vectors)
    kept: list[int] = []
    removed: list[Removed] = []
    store: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, len(vectors), _BLOCK):
        rows = vectors[start : start + _BLOCK].astype(np.float64)
        lengths = np.linalg.norm(rows, axis=1)
        rows /= np.where(lengths > 0, lengths, 1.0)[:, None]
        best, partners = np.full(len(rows), -2.0), np.zeros(len(rows), dtype=np.int64)
        for indices, others in store:
            products = rows @ others.T
            top = products.argmax(axis=1)
            scores = products[np.arange(len(rows)), top]
            better = scores > best
            best[better], partners[better] = scores[better], indices[top[better]]
        # Of the block itself only earlier rows count, and of those the ones that stay.
        inside = np.where(np.tri(len(rows), k=-1, dtype=bool), rows @ rows.T, -2.0)
        stays = np.ones(len(rows), dtype=bool)
        for place in range(len(rows)):
            nearest = int(inside[place].argmax())
            if inside[place, nearest] > best[place]:
                best[place], partners[place] = inside[place, nearest], start + nearest
            if lengths[place] > 0 and best[place] >= threshold - EPSILON:
                removed.append(Removed(start + place, int(partners[place]), float(best[place])))
                stays[place], inside[:, place] = False, -2.0
        if stays.any():
            store.append((start + np.flatnonzero(stays), rows[stays]))
            kept += store[-1][0].tolist()
    return Kept(kept, removed)
