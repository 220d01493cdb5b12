"""Diversity-based selection (paper 2.3): 10/10/10 and not Other, then balance over sources and categories.

While more than the target remain, the item with the largest P(source) x sum of P(category) goes,
and the probabilities are counted anew. Items with the same source and the same category list have
the same weight, so only groups of them are weighed: the result is that of the one-by-one definition,
bit for bit, since every weight is built from the same double-precision operations in the same order.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeVar

import numpy as np

from star1lib.errors import UserError
from star1lib.policies import OTHER
from star1lib.records import Example

ItemT = TypeVar("ItemT", bound=Mapping[str, Any])
Reason = Literal["below_bar", "other_category", "unscored", "over_represented"]


@dataclass(frozen=True, slots=True)
class Removed:
    """One item removed for balance: its index and the probabilities that made it the largest."""

    index: int
    p_source: float
    p_categories: float
    weight: float


@dataclass(frozen=True)
class Dropped:
    """Why an example is not in the selection; the probabilities are those at the moment of removal."""

    id: str
    source: str
    category: list[str]
    reason: Reason
    order: int | None = None
    p_source: float | None = None
    p_categories: float | None = None
    weight: float | None = None


@dataclass(frozen=True)
class Selection:
    """The selected examples in their original order, and every other one with its reason."""

    kept: list[Example]
    dropped: list[Dropped]


def _removals(records: Sequence[Mapping[str, Any]]) -> Iterator[Removed]:
    """Remove the heaviest item again and again, the first index on ties, until none is left."""
    members: dict[tuple[Any, tuple[str, ...]], deque[int]] = {}
    for index, record in enumerate(records):
        members.setdefault(_key(record, index), deque()).append(index)
    groups = list(members.values())
    sources = {source: place for place, source in enumerate(dict.fromkeys(source for source, _ in members))}
    categories = {
        name: place for place, name in enumerate(dict.fromkeys(name for _, names in members for name in names))
    }
    source_of = np.array([sources[source] for source, _ in members], dtype=int)
    # Row k has the k-th category of each group. Short lists end in a category of no items: adding it changes no bit.
    nothing = len(categories)
    table = np.full((max([1, *(len(names) for _, names in members)]), len(groups)), nothing)
    for group, (_, names) in enumerate(members):
        table[: len(names), group] = [categories[name] for name in names]
    sizes = np.array([len(indices) for indices in groups], dtype=float)
    heads = np.array([indices[0] for indices in groups], dtype=int)
    in_source = np.bincount(source_of, sizes, len(sources))
    in_category = np.bincount(table.ravel(), np.tile(sizes, len(table)), nothing + 1)
    for total in range(len(records), 0, -1):
        in_category[nothing] = 0
        p_source, p_category = in_source / total, in_category / max(in_category.sum(), 1)
        sums = p_category[table[0]]
        for row in table[1:]:
            sums = sums + p_category[row]
        weights = np.where(sizes > 0, p_source[source_of] * sums, -1.0)
        ties = np.flatnonzero(weights == weights.max())
        group = int(ties[heads[ties].argmin()])
        yield Removed(
            groups[group].popleft(), float(p_source[source_of[group]]), float(sums[group]), float(weights[group])
        )
        sizes[group] -= 1
        in_source[source_of[group]] -= 1
        np.subtract.at(in_category, table[:, group], 1)
        heads[group] = groups[group][0] if groups[group] else len(records)


def _key(record: Mapping[str, Any], index: int) -> tuple[Any, tuple[str, ...]]:
    try:
        source, category = record["source"], record["category"]
    except (KeyError, TypeError) as err:
        raise UserError(f"selection: record {index} needs the keys 'source' and 'category'; add them.") from err
    if isinstance(category, str) or not isinstance(category, Sequence):
        raise UserError(f"selection: record {index}: 'category' must be a list of names; wrap a single name in a list.")
    return source, tuple(category)


def removals(records: Sequence[Mapping[str, Any]], size: int) -> list[Removed]:
    """The items that leave, in the order in which they leave, until `size` remain."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise UserError(f"selection: the target size must be a whole number of at least 0, not {size!r}.")
    return list(islice(_removals(records), max(len(records) - size, 0)))


def select_balanced(records: Sequence[ItemT], size: int) -> list[ItemT]:
    """The `size` records that balancing leaves, in their original order (paper 2.3).

    Each record needs `category` (list of str) and `source`. Time is linear in the number of records
    times the number of different (source, category list) pairs. A `size` at or above the number of
    records keeps all. Raises :class:`UserError` for a negative size or a record without the keys.
    """
    gone = {step.index for step in removals(records, size)}
    return [record for index, record in enumerate(records) if index not in gone]


def high_quality(examples: Sequence[Example]) -> list[Example]:
    """Examples scored 10/10/10 whose category is not Other: the paper's bar (2.3)."""
    return [example for example in examples if _below_bar(example) is None]


def scored_between(examples: Sequence[Example], low: float, high: float) -> list[Example]:
    """Examples, not Other, whose mean score lies in [low, high]: the medium set of the data ablation (4.1)."""
    return [
        example
        for example in examples
        if example.score and OTHER not in example.category and low <= mean_score(example) <= high
    ]


def mean_score(example: Example) -> float:
    """The mean of the three criteria; nan without scores."""
    return example.score.mean if example.score else math.nan


def _below_bar(example: Example) -> Reason | None:
    if example.score is None:
        return "unscored"
    if not example.score.all_ten():
        return "below_bar"
    return "other_category" if OTHER in example.category else None


def select(examples: Sequence[Example], size: int) -> Selection:
    """Filter by the bar, balance down to `size`, and say of each dropped example why it went (2.3)."""
    bar = [Dropped(e.id, e.source, e.category, reason) for e in examples if (reason := _below_bar(e))]
    passed = high_quality(examples)
    steps = removals([example.model_dump(include={"source", "category"}) for example in passed], size)
    balance = [
        Dropped(e.id, e.source, e.category, "over_represented", order, step.p_source, step.p_categories, step.weight)
        for order, step in enumerate(steps)
        for e in [passed[step.index]]
    ]
    gone = {step.index for step in steps}
    return Selection([example for i, example in enumerate(passed) if i not in gone], bar + balance)


def entropy(counts: Mapping[Any, float]) -> float:
    """Shannon entropy in bits of the shares behind `counts`; 0.0 without counts."""
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values() if n) + 0.0 if total else 0.0


def balance_curve(records: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> list[dict[str, float]]:
    """How even sources and categories are at each target size, by one run down to the smallest.

    A row per size that the pool can give, from the whole pool downwards: `size` and the entropies in bits
    (`source_entropy`, `category_entropy`).
    """
    wanted = sorted({len(records), *(size for size in sizes if size < len(records))}, reverse=True)
    order = [step.index for step in removals(records, wanted[-1])]
    rows = []
    for size in wanted:
        gone = set(order[: len(records) - size])
        left = [record for index, record in enumerate(records) if index not in gone]
        sources = Counter(record["source"] for record in left)
        mentions = Counter(name for record in left for name in record["category"])
        rows.append({"size": size, "source_entropy": entropy(sources), "category_entropy": entropy(mentions)})
    return rows
