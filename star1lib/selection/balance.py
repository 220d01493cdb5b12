"""Diversity-based selection (paper 2.3): 10/10/10 and not Other, then balance over sources and categories.

While more than the target remain, the item with the largest P(source) x sum of P(category) goes,
and the probabilities are counted anew. Items with the same source and the same category list have
the same weight, so only groups of them are weighed: the result is that of the one-by-one definition,
bit for bit, since every weight is built from the same double-precision operations in the same order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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


class _Groups:
    """Groups of interchangeable items: counts, and the indices of each group in order."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        members: dict[tuple[Any, tuple[str, ...]], list[int]] = {}
        for index, record in enumerate(records):
            members.setdefault(_key(record, index), []).append(index)
        self.members = list(members.values())
        self.taken = [0] * len(self.members)
        source_ids: dict[Any, int] = {}
        category_ids: dict[str, int] = {}
        tuple_ids: dict[tuple[str, ...], int] = {}
        self.source_of = np.array([source_ids.setdefault(source, len(source_ids)) for source, _ in members], dtype=int)
        self.tuple_of = np.array([tuple_ids.setdefault(names, len(tuple_ids)) for _, names in members], dtype=int)
        for names in tuple_ids:
            for name in names:
                category_ids.setdefault(name, len(category_ids))
        self.categories = [[category_ids[name] for name in names] for names in tuple_ids]
        width = max((len(names) for names in self.categories), default=0)
        nothing = len(category_ids)  # a column whose probability stays zero: adding it changes no bit
        self.table = np.full((max(width, 1), len(tuple_ids)), nothing, dtype=int)
        for column, ids in enumerate(self.categories):
            self.table[: len(ids), column] = ids
        self.source_counts = np.zeros(len(source_ids))
        self.category_counts = np.zeros(len(category_ids) + 1)
        for group, indices in enumerate(self.members):
            self.source_counts[self.source_of[group]] += len(indices)
            for category in self.categories[self.tuple_of[group]]:
                self.category_counts[category] += len(indices)
        self.total = len(records)
        self.mentions = int(self.category_counts.sum())

    def removals(self) -> Iterator[Removed]:
        """Remove the heaviest item again and again, the first index on ties, until none is left."""
        alive = np.arange(len(self.members))
        heads = np.array([indices[0] for indices in self.members], dtype=int)
        while self.total:
            source_of, tuple_of = self.source_of[alive], self.tuple_of[alive]
            emptied = False
            while not emptied:
                p_source = self.source_counts / self.total
                p_category = self.category_counts / max(self.mentions, 1)
                sums = p_category[self.table[0]]
                for row in self.table[1:]:
                    sums = sums + p_category[row]
                weights = p_source[source_of] * sums[tuple_of]
                at = int(weights.argmax())
                ties = np.flatnonzero(weights == weights[at])
                if len(ties) > 1:
                    at = int(ties[heads[alive[ties]].argmin()])
                group = int(alive[at])
                yield Removed(
                    int(heads[group]), float(p_source[source_of[at]]), float(sums[tuple_of[at]]), float(weights[at])
                )
                emptied = self._take(group, heads)
            alive = alive[alive != group]

    def _take(self, group: int, heads: np.ndarray) -> bool:
        """Account for the removal of the first item of `group`; True when that was its last."""
        self.taken[group] += 1
        self.total -= 1
        self.source_counts[self.source_of[group]] -= 1
        for category in self.categories[self.tuple_of[group]]:
            self.category_counts[category] -= 1
        self.mentions -= len(self.categories[self.tuple_of[group]])
        if self.taken[group] == len(self.members[group]):
            return True
        heads[group] = self.members[group][self.taken[group]]
        return False


def _key(record: Mapping[str, Any], index: int) -> tuple[Any, tuple[str, ...]]:
    try:
        source, category = record["source"], record["category"]
    except (KeyError, TypeError) as err:
        raise UserError(f"selection: record {index} needs the keys 'source' and 'category'; add them.") from err
    if isinstance(category, str) or not isinstance(category, Sequence):
        raise UserError(f"selection: record {index}: 'category' must be a list of names; wrap a single name in a list.")
    return source, tuple(category)


def _check_size(size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise UserError(f"selection: the target size must be a whole number of at least 0, not {size!r}.")


def removals(records: Sequence[Mapping[str, Any]], size: int) -> list[Removed]:
    """The items that leave, in the order in which they leave, until `size` remain."""
    _check_size(size)
    steps = _Groups(records).removals()
    return [next(steps) for _ in range(max(len(records) - size, 0))]


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
    _check_size(size)
    bar = [
        Dropped(example.id, example.source, example.category, reason)
        for example in examples
        if (reason := _below_bar(example))
    ]
    passed = high_quality(examples)
    pool = [{"source": example.source, "category": example.category} for example in passed]
    steps = removals(pool, size)
    gone = {step.index for step in steps}
    balance = [
        Dropped(
            passed[step.index].id,
            passed[step.index].source,
            passed[step.index].category,
            "over_represented",
            order,
            step.p_source,
            step.p_categories,
            step.weight,
        )
        for order, step in enumerate(steps)
    ]
    return Selection([example for i, example in enumerate(passed) if i not in gone], bar + balance)


def entropy(counts: Mapping[Any, float]) -> float:
    """Shannon entropy in bits of the shares behind `counts`; 0.0 without counts."""
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values() if n) + 0.0 if total else 0.0


def balance_curve(records: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> list[dict[str, float]]:
    """How even sources and categories are at each target size, by one run down to the smallest.

    A row per size that the pool can give, from the whole pool downwards: `size`, the entropies in bits
    (`source_bits`, `category_bits`), and the shares of the largest source and category.
    """
    for size in sizes:
        _check_size(size)
    wanted = sorted({len(records), *(size for size in sizes if size < len(records))}, reverse=True)
    sources = Counter(record["source"] for record in records)
    mentions = Counter(name for record in records for name in record["category"])
    steps = iter(removals(records, wanted[-1]))
    rows, left = [], len(records)
    for size in wanted:
        for _ in range(left - size):
            record = records[next(steps).index]
            sources[record["source"]] -= 1
            mentions.subtract(record["category"])
        left = size
        rows.append(
            {
                "size": size,
                "source_bits": entropy(sources),
                "category_bits": entropy(mentions),
                "largest_source": max(sources.values(), default=0) / max(size, 1),
                "largest_category": max(mentions.values(), default=0) / max(mentions.total(), 1),
            }
        )
    return rows
