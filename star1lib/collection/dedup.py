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
from itertools import groupby, pairwise
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


def tfidf_matrix(texts: Sequence[str]) -> Any:
    """Rows of length one as a CSR matrix in double precision; all zero for a text without words."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        return TfidfVectorizer().fit_transform(texts)
    except ValueError:  # no text has a word
        return csr_matrix((len(texts), 1))


def tfidf(texts: Sequence[str], threshold: float = 0.6) -> Kept:
    """The greedy TF-IDF rule with the partner of every removed text: its most similar kept predecessor."""
    heads = _Heads(tfidf_matrix(texts), threshold)
    kept, removed = np.empty(0, dtype=np.int64), list[Removed]()
    for start in range(0, len(texts), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(texts)))
        best: dict[int, Removed] = {}
        for others in (kept, rows):  # a row near one kept before its block needs no partner in its block
            for hit in heads.near(np.setdiff1d(rows, list(best)), others):
                if hit.partner not in best and (hit.index not in best or hit.score > best[hit.index].score):
                    best[hit.index] = hit
        removed += [best[row] for row in sorted(best)]
        kept = np.concatenate([kept, np.setdiff1d(rows, list(best))])
    return Kept(kept.tolist(), removed)


def tfidf_near(texts: Sequence[str], references: Sequence[str], threshold: float = 0.6) -> list[Removed]:
    """Texts whose TF-IDF cosine with a reference reaches the threshold, each with its most similar reference.

    The vectors are fitted on references and texts together; `index` counts texts, `partner` references.
    """
    first = len(references)
    heads = _Heads(tfidf_matrix([*references, *texts]), threshold)
    found = heads.near(np.arange(first, first + len(texts)), np.arange(first))
    best = [max(hits, key=lambda hit: hit.score) for _, hits in groupby(found, lambda hit: hit.index)]
    return [Removed(hit.index - first, hit.partner, hit.score) for hit in best]


class _Heads:
    """All rows of length one (or zero), and their heads: the rare terms whose products bound the cosines.

    A row is cut to the fewest rare terms such that the norm of the others is below `_REST`. Of two rows, take the one
    whose head ends earlier in the order of terms. All that the product of heads misses of their cosine lies in that
    row's others, and the other row has length one: so the cosine is at most the product of heads plus the larger of the
    two norms left out.
    """

    def __init__(self, matrix: Any, threshold: float) -> None:
        from scipy.sparse import csr_matrix

        self.bar = threshold - EPSILON
        rare_first = np.argsort(np.bincount(matrix.indices, minlength=matrix.shape[1]), kind="stable")
        self.matrix = matrix = matrix[:, rare_first].sorted_indices()
        total = np.concatenate([[0.0], np.cumsum(matrix.data**2)])
        ends = total[matrix.indptr[1:]]
        owner = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        # The slack covers the rounding of the running sum: a head may be a term longer than needed, never shorter.
        keep = ends[owner] - total[:-1] >= min(_REST, max(self.bar, 0.0)) ** 2 - 1e-7
        counts = np.bincount(owner[keep], minlength=matrix.shape[0])
        indptr = np.concatenate([[0], np.cumsum(counts)])
        self.heads = csr_matrix((matrix.data[keep].astype(np.float32), matrix.indices[keep], indptr), matrix.shape)
        left_out = np.sqrt(np.maximum(ends - total[matrix.indptr[:-1] + counts], 0.0) + 1e-9)
        self.rest = left_out.astype(np.float32)

    def near(self, rows: np.ndarray, others: np.ndarray) -> list[Removed]:
        """Each of `rows` with each earlier one among `others` whose cosine reaches the bar, in order."""
        columns, found = self.heads[others].T.tocsr(), list[Removed]()
        for part in _parts(self.heads[rows], columns):
            product = self.heads[rows[part]] @ columns
            left, right = np.repeat(rows[part], np.diff(product.indptr)), others[product.indices]
            # 1e-5: single precision of the product.
            bound = product.data + np.maximum(self.rest[left], self.rest[right])
            possible = (bound >= self.bar - 1e-5) & (right < left)
            pairs = np.stack([left[possible], right[possible]])
            pairs = pairs[:, np.lexsort(pairs[::-1])]
            for start in range(0, pairs.shape[1], 100_000):
                some = pairs[:, start : start + 100_000]
                scores = _cosines(self.matrix, *some)
                near = scores >= self.bar
                found += map(Removed, *some[:, near].tolist(), scores[near].tolist())
        return found


def _parts(rows: Any, columns: Any, limit: int = 8_000_000) -> list[slice]:
    """Slices of `rows` whose product with `columns` has at most about `limit` entries, so that memory is bounded."""
    lengths = np.diff(columns.indptr)[rows.indices]
    cost = np.concatenate([[0], np.cumsum(lengths)])[rows.indptr]
    cuts = np.searchsorted(cost, np.arange(limit, cost[-1], limit)).tolist()
    return [slice(a, b) for a, b in pairwise(sorted({0, len(cost) - 1, *cuts}))]


def _cosines(matrix: Any, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Dot products of the rows `left` with the rows `right`, pair by pair, in double precision."""
    lengths = np.diff(matrix.indptr)[left].astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths) + np.repeat(matrix.indptr[left], lengths)
    others = np.asarray(matrix[np.repeat(right, lengths), matrix.indices[places]]).ravel()
    return np.add.reduceat(others * matrix.data[places], starts[:-1]) if len(places) else np.zeros(len(left))


def embedding(vectors: np.ndarray, threshold: float = 0.7) -> Kept:
    """The greedy cosine rule with partners: blocks of products in double precision with the rows kept so far.

    `vectors` are floats of shape (n, d); zero vectors are similar to nothing.
    """
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
