"""Greedy deduplication, first come first kept, exactly as defined and without an N x N matrix (paper 2.1).

A text is removed when its similarity to a text kept before it reaches the threshold. TF-IDF: rows of
scikit-learn's `TfidfVectorizer` over all texts, cosine in double precision; a text without a word is
similar to nothing. Embeddings: cosine of the given vectors. Similarities within `EPSILON` below the
threshold count as reaching it, so that rounding in the last bits decides nothing.

How it scales: terms are ordered from rare to common, and each kept row is indexed only by the head of
its terms that could bring a pair to the threshold (what is left out has too little norm). Candidates
come from a sparse product of heads, block by block, and only candidates are compared in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

EPSILON = 1e-9
_BLOCK = 2048


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


def _sparse_greedy(matrix: Any, threshold: float) -> Kept:
    """The greedy rule on rows of length one (or zero)."""
    from scipy.sparse import csr_matrix, vstack

    count = matrix.shape[0]
    if count == 0:
        return Kept([], [])
    matrix = _rare_terms_first(matrix)
    heads = _heads(matrix, threshold - EPSILON)
    bar = threshold - EPSILON
    kept: list[int] = []
    removed: list[Removed] = []
    index: Any = csr_matrix((0, matrix.shape[1]))
    kept_rows = np.empty(0, dtype=np.int64)
    for start in range(0, count, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, count))
        against_kept = _pairs(matrix, heads[block], index, block, kept_rows)
        inside = _pairs(matrix, heads[block], heads[block].T.tocsr().T, block, block)
        best: dict[int, tuple[float, int]] = {}
        for row, partner, score in against_kept:
            if score >= bar and score > best.get(row, (-1.0, -1))[0]:
                best[row] = (score, partner)
        earlier: dict[int, list[tuple[int, float]]] = {}
        for row, partner, score in inside:
            if partner < row and score >= bar:
                earlier.setdefault(row, []).append((partner, score))
        fresh: set[int] = set()
        for row in block.tolist():
            found = best.get(row)
            for partner, score in earlier.get(row, []):
                if partner in fresh and (found is None or score > found[0]):
                    found = (score, partner)
            if found is None:
                kept.append(row)
                fresh.add(row)
            else:
                removed.append(Removed(row, found[1], found[0]))
        new = np.array(sorted(fresh), dtype=np.int64)
        kept_rows = np.concatenate([kept_rows, new])
        index = vstack([index, heads[new]], format="csr") if index.shape[0] else heads[new]
    return Kept(kept, removed)


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


def _heads(matrix: Any, bar: float) -> Any:
    """Each row cut to the fewest rare terms such that the rest has a norm below `bar`.

    Two rows of length one whose heads share no term have a cosine below `bar`: of their common terms, the
    rarest lies outside both heads or outside one; then all of them lie in that row's rest, whose norm is below it.
    """
    from scipy.sparse import csr_matrix

    squares = matrix.data**2
    total = np.concatenate([[0.0], np.cumsum(squares)])
    ends = total[matrix.indptr[1:]]
    owner = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    rest = ends[owner] - total[:-1]  # squared norm from this term on
    keep = rest >= (bar - 1e-7) ** 2
    counts = np.bincount(owner[keep], minlength=matrix.shape[0])
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return csr_matrix((np.ones(int(keep.sum()), dtype=np.float32), matrix.indices[keep], indptr), shape=matrix.shape)


def _pairs(matrix: Any, heads: Any, index: Any, rows: np.ndarray, partners: np.ndarray) -> list[tuple[int, int, float]]:
    """Candidate pairs (row, partner, cosine) between `rows` and `partners` whose heads share a term."""
    if index.shape[0] == 0 or heads.nnz == 0:
        return []
    shared = (heads @ index.T).tocoo()
    left, right = rows[shared.row], partners[shared.col]
    earlier = right < left
    left, right = left[earlier], right[earlier]
    out: list[tuple[int, int, float]] = []
    for start in range(0, len(left), 200_000):
        a, b = left[start : start + 200_000], right[start : start + 200_000]
        scores = np.asarray(matrix[a].multiply(matrix[b]).sum(axis=1)).ravel()
        near = scores > 0.0
        out += zip(a[near].tolist(), b[near].tolist(), scores[near].tolist(), strict=True)
    return out


def embedding(vectors: np.ndarray, threshold: float = 0.7, block: int = 1024) -> Kept:
    """The greedy cosine rule with partners; blocks of single-precision products, near ones again in double."""
    vectors = np.asarray(vectors)
    count = len(vectors)
    if count == 0:
        return Kept([], [])
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    safe = np.where(norms > 0, norms, 1.0)
    unit = (vectors / safe[:, None]).astype(np.float32)
    bar, slack = threshold - EPSILON, 1e-4
    kept: list[int] = []
    removed: list[Removed] = []

    def exact(row: int, partner: int) -> float:
        a, b = vectors[row].astype(np.float64), vectors[partner].astype(np.float64)
        return float(a @ b / (safe[row] * safe[partner]))

    store = np.empty((min(count, 4096), unit.shape[1]), dtype=np.float32)
    for start in range(0, count, block):
        rows = unit[start : start + block]
        size = len(kept)
        best = np.full(len(rows), -2.0, dtype=np.float32)
        arg = np.zeros(len(rows), dtype=np.int64)
        for first in range(0, size, 16_384):
            products = rows @ store[first : min(first + 16_384, size)].T
            top = products.argmax(axis=1)
            values = products[np.arange(len(rows)), top]
            better = values > best
            best[better], arg[better] = values[better], top[better] + first
        inside = rows @ rows.T
        fresh: list[int] = []
        for offset in range(len(rows)):
            row = start + offset
            partner, score = -1, -2.0
            if best[offset] >= bar - slack:
                partner, score = kept[arg[offset]], exact(row, kept[arg[offset]])
            near = [f for f in fresh if inside[offset, f - start] >= bar - slack] if fresh else []
            for candidate in near:
                value = exact(row, candidate)
                if value > score:
                    partner, score = candidate, value
            if score < bar and best[offset] >= bar - slack and norms[row] > 0:
                # The best in single precision just missed in double: another kept one may reach it.
                close = np.flatnonzero(rows[offset] @ store[:size].T >= bar - slack)
                for position in close.tolist():
                    value = exact(row, kept[position])
                    if value > score:
                        partner, score = kept[position], value
            if score >= bar and norms[row] > 0:
                removed.append(Removed(row, partner, score))
            else:
                fresh.append(row)
        while len(store) < size + len(fresh):
            store = np.concatenate([store, np.empty_like(store)])
        if fresh:
            store[size : size + len(fresh)] = unit[fresh]
        kept += fresh
    return Kept(kept, removed)
