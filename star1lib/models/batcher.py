"""Single calls gathered into batches: Inspect asks sample by sample, models and judges want many at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
ValueT = TypeVar("ValueT")
QUIET_SECONDS = 0.2


class Batcher(Generic[ItemT, ValueT]):
    """Collects items until none has arrived for a moment, then works on all of them in a thread.

    `work(items, done)` calls `done(position, value)` as results come in; what it leaves undone fails, and
    what it raises reaches every waiting caller. Items that arrive meanwhile form the next batch.
    """

    def __init__(self, work: Callable[[Sequence[ItemT], Callable[[int, ValueT], None]], None]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._waiting: list[tuple[ItemT, Future[ValueT]]] = []
        self._thread: threading.Thread | None = None

    async def submit(self, item: ItemT) -> ValueT:
        """The value of `item`."""
        future: Future[ValueT] = Future()
        with self._lock:
            self._waiting.append((item, future))
            self._arrived.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="batcher", daemon=True)
                self._thread.start()
        return await asyncio.wrap_future(future)

    def _serve(self) -> None:
        while True:
            while self._arrived.is_set():
                self._arrived.clear()
                self._arrived.wait(QUIET_SECONDS)
            with self._lock:
                batch, self._waiting = self._waiting, []
                if not batch:
                    self._thread = None
                    return
            # A future that its caller gave up on cannot take a result any more.
            live = [(item, future) for item, future in batch if future.set_running_or_notify_cancel()]
            if live:
                self._run(live)

    def _run(self, batch: list[tuple[ItemT, Future[ValueT]]]) -> None:
        futures = [future for _, future in batch]
        try:
            self._work([item for item, _ in batch], lambda position, value: futures[position].set_result(value))
        except BaseException as err:
            for future in futures:
                if not future.done():
                    future.set_exception(err)
            return
        for future in futures:
            if not future.done():
                future.set_exception(RuntimeError("the batch ended without a result for this item"))
