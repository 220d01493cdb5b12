"""The TF-IDF dedup past one machine: what shards, on which engine, and a run of it that keeps the same set.

The plan. Of the greedy rule only the last step is sequential, and it is the smallest:

1. vectors: a map over text shards for word counts, one small reduction for document frequencies, a map again;
2. similar pairs: the join that dominates, quadratic in the number of blocks. Every pair of blocks (i, j <= i) is a
   task of its own that reads two blocks of rows and returns only the pairs at or above the threshold. Tasks share
   nothing, so they spread over as many machines as there are, and a lost one is run again;
3. the greedy walk over those pairs, in order of the later index: time linear in the number of pairs, on the driver.

A row is kept unless one of its earlier similar rows is kept, which is the definition itself. Exact copies are
collapsed first: of n equal texts only the first meets the others, so a cluster of copies costs n, not n squared.
Step 2 returns pairs with removed rows too, which one machine would not need; that is the price of independence.
Embeddings take the same three steps, with a dense block product as the task.

The engine is Ray: the work is numeric tasks over large read-only arrays, which its object store gives to every
worker of a machine without a copy. Spark would serialise the matrices between Java and Python for each task;
datatrove shards pipelines of documents over files and has no pairwise task graph. Ray is optional (`pip install
'star1lib[scale]'`); without it the same tasks run in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from star1lib.collection import dedup
from star1lib.errors import UserError

Engine = Literal["local", "ray"]
Triple = tuple[int, int, float]
_IN_FLIGHT = 64


def greedy_tfidf(
    texts: Sequence[str], threshold: float = 0.6, block: int = 4096, engine: Engine = "local"
) -> list[int]:
    """Indices kept by the greedy TF-IDF rule, in order: the set of :func:`star1lib.collection.dedup.greedy_tfidf`.

    `block` is the number of rows of a task's side. Raises :class:`UserError` when `engine` is ray and Ray is missing.
    """
    import numpy as np

    first, copy_of = _collapse(texts)
    matrix = dedup.tfidf_matrix(texts)[first] if first else dedup.tfidf_matrix([])
    blocks = [matrix[start : start + block] for start in range(0, len(first), block)]
    tasks = [(i, j) for i in range(len(blocks)) for j in range(i + 1)]
    bar = threshold - dedup.EPSILON
    pairs: list[Triple] = []
    for i, j, found in _engine(engine)(blocks, tasks, bar):
        pairs += [(row + i * block, other + j * block, score) for row, other, score in found]
    kept = set(walk(len(first), pairs))
    # A copy of a text is similar to it, so it never stays; a text without a word is similar to nothing and does.
    silent = np.diff(matrix.indptr) == 0 if first else []
    return [i for i, place in enumerate(copy_of) if place in kept and (first[place] == i or silent[place])]


def _collapse(texts: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices of the first of equal texts, and for every text its place among them."""
    places: dict[str, int] = {}
    first: list[int] = []
    copy_of: list[int] = []
    for index, text in enumerate(texts):
        if text not in places:
            places[text] = len(first)
            first.append(index)
        copy_of.append(places[text])
    return first, copy_of


def similar(left: Any, right: Any, same: bool, bar: float) -> list[Triple]:
    """One task: pairs (row of `left`, row of `right`, cosine) that reach `bar`; within one block only earlier rows."""
    product = (left @ right.T).tocoo()
    near = product.data >= bar
    if same:
        near &= product.col < product.row
    return list(zip(product.row[near].tolist(), product.col[near].tolist(), product.data[near].tolist(), strict=True))


def walk(count: int, pairs: Sequence[Triple]) -> list[int]:
    """The greedy rule on a list of similar pairs (later index, earlier index, score): the kept indices in order."""
    earlier: dict[int, list[int]] = {}
    for later, before, _ in pairs:
        earlier.setdefault(later, []).append(before)
    kept: set[int] = set()
    for index in range(count):
        if not kept.intersection(earlier.get(index, ())):
            kept.add(index)
    return sorted(kept)


Results = Iterator[tuple[int, int, list[Triple]]]


def _engine(name: Engine) -> Callable[[list[Any], list[tuple[int, int]], float], Results]:
    if name == "local":
        return _locally
    if name == "ray":
        return _with_ray
    raise UserError(f"engine '{name}': not known; use local or ray.")


def _locally(blocks: list[Any], tasks: list[tuple[int, int]], bar: float) -> Results:
    for i, j in tasks:
        yield i, j, similar(blocks[i], blocks[j], i == j, bar)


def _with_ray(blocks: list[Any], tasks: list[tuple[int, int]], bar: float) -> Results:
    try:
        import ray
    except ImportError as err:
        raise UserError("engine 'ray': Ray is not installed; run `pip install 'star1lib[scale]'`.") from err

    started = not ray.is_initialized()
    if started:
        ray.init(include_dashboard=False, log_to_driver=False)
    try:
        shared = [ray.put(block) for block in blocks]
        task = ray.remote(similar)
        waiting: dict[Any, tuple[int, int]] = {}
        for i, j in tasks:
            # Results wait in the store until they are read, so only so many tasks are under way at once.
            while len(waiting) >= _IN_FLIGHT:
                yield from _finished(ray, waiting)
            waiting[task.remote(shared[i], shared[j], i == j, bar)] = (i, j)
        while waiting:
            yield from _finished(ray, waiting)
    finally:
        if started:
            ray.shutdown()


def _finished(ray: Any, waiting: dict[Any, tuple[int, int]]) -> Results:
    done, _ = ray.wait(list(waiting), num_returns=1)
    for reference in done:
        i, j = waiting.pop(reference)
        yield i, j, ray.get(reference)
