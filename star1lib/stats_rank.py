"""Agreement and ranking: kappa, confusion, AUC, F1 (judge cards, tagging and scoring agreement)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np

Label = TypeVar("Label", bound=Hashable)
Weights = Literal["none", "linear", "quadratic"]


class F1(NamedTuple):
    """Micro F1 over all decisions, macro F1 over labels, F1 per label."""

    micro: float
    macro: float
    per_label: dict[str, float]


def confusion(a: Sequence[Label], b: Sequence[Label], labels: Sequence[Label]) -> np.ndarray:
    """Counts (len(labels), len(labels)): rows are `a`, columns `b`. A label outside `labels` is a ValueError."""
    if len(a) != len(b):
        raise ValueError(f"labels differ in length: {len(a)} and {len(b)}")
    place = {label: i for i, label in enumerate(labels)}
    unknown = {label for label in (*a, *b) if label not in place}
    if unknown:
        raise ValueError(f"labels not listed: {sorted(map(str, unknown))}")
    table = np.zeros((len(labels), len(labels)), dtype=int)
    for x, y in zip(a, b, strict=True):
        table[place[x], place[y]] += 1
    return table


def weighted_kappa(
    a: Sequence[Label],
    b: Sequence[Label],
    labels: Sequence[Label],
    weights: Weights = "linear",
) -> float:
    """Cohen's kappa of two raters over ordered `labels`, disagreements weighted by their distance.

    1.0 when both give one and the same label throughout; nan without items.
    """
    return float(_kappa(confusion(a, b, labels)[None].astype(float), weights)[0])


def kappa_interval(
    a: Sequence[Label],
    b: Sequence[Label],
    labels: Sequence[Label],
    weights: Weights = "none",
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of :func:`weighted_kappa` over resampled items; nan without items."""
    seen = confusion(a, b, labels)
    total = int(seen.sum())
    if total == 0:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).multinomial(total, seen.ravel() / total, size=draws)
    values = _kappa(drawn.reshape(draws, *seen.shape).astype(float), weights)
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def _kappa(tables: np.ndarray, weights: Weights) -> np.ndarray:
    """Kappa of each of `tables` (draws, labels, labels)."""
    size = tables.shape[-1]
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(float)
    cost = {"none": (distance > 0).astype(float), "linear": distance, "quadratic": distance**2}[weights]
    total = tables.sum(axis=(1, 2))
    chance = tables.sum(axis=2)[:, :, None] * tables.sum(axis=1)[:, None, :]
    expected = (cost * chance).sum(axis=(1, 2))
    observed = (cost * tables).sum(axis=(1, 2)) * total
    agreed = np.where(total > 0, 1.0, math.nan)
    return np.where(expected > 0, 1.0 - observed / np.where(expected > 0, expected, 1.0), agreed)


def cohen_kappa(a: Sequence[Label], b: Sequence[Label]) -> float:
    """Cohen's kappa of two raters over unordered labels."""
    labels = sorted({*a, *b}, key=str)
    return weighted_kappa(a, b, labels, "none")


def auc(gold: Sequence[bool], score: Sequence[float]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half; nan if one class."""
    if len(gold) != len(score):
        raise ValueError(f"gold and score differ in length: {len(gold)} and {len(score)}")
    positive = np.asarray(gold, dtype=bool)
    values = np.asarray(score, dtype=float)
    hits, misses = int(positive.sum()), int((~positive).sum())
    if not hits or not misses:
        return math.nan
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def f1(gold: Sequence[str | Collection[str]], guess: Sequence[str | Collection[str]]) -> F1:
    """F1 of single labels or sets of labels per item.

    Macro is over the labels that occur in `gold`; with one label per item micro F1 is the accuracy.
    """
    if len(gold) != len(guess):
        raise ValueError(f"gold and guess differ in length: {len(gold)} and {len(guess)}")
    right: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    given: Counter[str] = Counter()
    for truth, answer in zip(gold, guess, strict=True):
        expected, found = _as_set(truth), _as_set(answer)
        wanted.update(expected)
        given.update(found)
        right.update(expected & found)
    per_label = {label: 2 * right[label] / (wanted[label] + given[label]) for label in sorted(wanted)}
    total = wanted.total() + given.total()
    micro = 2 * right.total() / total if total else math.nan
    macro = sum(per_label.values()) / len(per_label) if per_label else math.nan
    return F1(micro, macro, per_label)


def _as_set(labels: str | Collection[str]) -> set[str]:
    return {labels} if isinstance(labels, str) else set(labels)
