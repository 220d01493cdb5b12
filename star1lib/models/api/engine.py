"""The engine: asks a role many requests, journals each answer as it arrives, and never pays twice.

:func:`run` gives a :class:`Reply` per request in input order, whatever happened to it; :func:`ask` also
reads the answers and gives values and error rows. An interrupted run is repeated as it is and asks
only for what is missing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from star1lib.files import write_jsonl
from star1lib.models.api import backends
from star1lib.models.api.backends import Answer, CallFailed, CallOutcome, Reply, Request
from star1lib.models.api.journal import Journal
from star1lib.models.api.limits import MAX_RETRY_AFTER_S, Budget, RateLimiter, backoff
from star1lib.models.api.parsing import ErrorRow, ParseError
from star1lib.models.api.plan import collect, estimated_tokens, plan, record_of, reply_of, screened_text, unsent
from star1lib.models.api.progress import Meter
from star1lib.models.roles import Role

__all__ = ["Reply", "Request", "arun", "ask", "run", "write_errors"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_EMPTY_RETRIES = 2
_VLLM_BATCH = 256
_COMPLAINT = (
    "Your last message could not be used: {reason}. Answer the request again, and write nothing but the answer "
    "in the form that was asked for."
)


class _Run:
    """One run over the missing requests of a plan."""

    def __init__(self, role: Role, book: Journal, meter: Meter) -> None:
        self.role, self.book, self.meter = role, book, meter
        self.limiter = RateLimiter(role.rpm, role.tpm)
        self.budget = Budget(role.max_cost_usd, book.spent(role.name))
        self.failed: dict[str, Reply] = {}
        self.halted: str | None = None
        self._in_a_row = 0
        self._outputs, self._answers = 0, 0

    async def serve(self, missing: dict[str, Request]) -> None:
        from star1lib.models.api.served import ServedBackend

        backend = ServedBackend(self.role)
        queue = iter(missing.items())
        workers = [
            asyncio.create_task(self._worker(backend, queue)) for _ in range(min(self.role.concurrency, len(missing)))
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await backend.close()

    async def _worker(self, backend: Any, queue: Iterator[tuple[str, Request]]) -> None:
        for key, request in queue:
            await self._one(backend, key, request)

    async def _one(self, backend: Any, key: str, request: Request) -> None:
        """Ask until there is an answer or no sense in asking again."""
        guess = estimated_tokens(request.messages)
        worst = self.role.price.cost(guess, self.role.max_tokens) if self.role.price else 0.0
        wasted, attempt, failure = 0.0, 0, CallFailed("not sent")
        while True:
            if self.halted:
                return self._not_sent(key, request, "error", f"not sent: {self.halted}")
            if (ticket := await self.budget.reserve(worst)) is None:
                if attempt == 0:
                    return self._not_sent(key, request, "over_budget", self._over())
                return self._fail(key, request, failure, wasted)
            reserved = guess + self._expected_output()
            try:
                await self.limiter.acquire(reserved)
                answer: Answer = await backend.complete(request)
                record = record_of(self.role, key, request, answer, wasted)
                self.budget.charge(record["cost_usd"] - wasted)
                self.limiter.correct(reserved, record["input_tokens"] + record["output_tokens"])
                return self._keep(record)
            except CallFailed as err:
                failure = err
                self.limiter.correct(reserved, err.input_tokens + err.output_tokens)
                cost = self.role.price.cost(err.input_tokens, err.output_tokens) if self.role.price else 0.0
                self.budget.charge(cost)
                wasted += cost
            finally:
                await self.budget.settle(ticket)
            if failure.filtered:
                answer = Answer("", "", "content_filter", 0, 0, "filtered", failure.message)
                return self._keep(record_of(self.role, key, request, answer, wasted))
            delay = self._delay(failure, attempt)
            if delay is None:
                return self._fail(key, request, failure, wasted)
            attempt += 1
            self.meter.retried()
            await asyncio.sleep(delay)

    def _expected_output(self) -> float:
        return self._outputs / self._answers if self._answers >= 8 else self.role.max_tokens

    def _delay(self, failure: CallFailed, attempt: int) -> float | None:
        """Seconds until the next attempt; None when there is to be none."""
        limit = min(self.role.retries, _EMPTY_RETRIES) if failure.paid else self.role.retries
        if failure.fatal or not failure.retryable or attempt >= limit:
            return None
        delay = backoff(attempt, self.role.backoff_s)
        if failure.retry_after is not None:
            if failure.retry_after > MAX_RETRY_AFTER_S:
                failure.fatal = True
                failure.message += f"; the server asks to wait {failure.retry_after:.0f} s"
                return None
            delay = max(delay if failure.retry_after == 0 else 0.0, failure.retry_after)
            if failure.throttled:
                self.limiter.pause(failure.retry_after)
        return delay

    def _keep(self, record: dict[str, Any]) -> None:
        self._in_a_row = 0
        self._outputs, self._answers = self._outputs + record["output_tokens"], self._answers + 1
        self.book.append(record)
        self.meter.done(record["outcome"], self.budget.spent)

    def _fail(self, key: str, request: Request, failure: CallFailed, wasted: float) -> None:
        answer = Answer("", "", "", failure.input_tokens, failure.output_tokens, "error", failure.message)
        record = record_of(self.role, key, request, answer) | {"cost_usd": wasted}
        self.book.append(record)
        self.failed[key] = reply_of(request.id, record)
        self._in_a_row += 1
        if failure.fatal:
            self.halted = failure.message
        elif self._in_a_row >= max(20, 2 * self.role.concurrency):
            self.halted = f"{self._in_a_row} requests in a row failed, the last with: {failure.message}"
        self.meter.done("error", self.budget.spent)

    def _not_sent(self, key: str, request: Request, outcome: CallOutcome, reason: str) -> None:
        self.failed[key] = unsent(request.id, outcome, reason)
        self.meter.done(outcome, self.budget.spent)

    def _over(self) -> str:
        return f"not sent: max_cost_usd {self.role.max_cost_usd:g} would be passed ({self.budget.spent:.4f} spent)"

    def compute(self, missing: dict[str, Request]) -> None:
        """Answer by a local backend, batch by batch."""
        backend = backends.make_local(self.role)
        size = max(self.role.batch_size, _VLLM_BATCH) if self.role.backend == "vllm" else self.role.batch_size
        items = list(missing.items())
        for start in range(0, len(items), size):
            chunk = items[start : start + size]
            answers = backend.complete_many([request for _, request in chunk])
            for (key, request), answer in zip(chunk, answers, strict=True):
                if isinstance(answer, CallFailed):
                    self._fail(key, request, answer, 0.0)
                else:
                    self._keep(record_of(self.role, key, request, answer))


async def arun(role: Role, requests: Sequence[Request], journal: Path, progress: bool = True) -> list[Reply]:
    """Ask `role` all `requests`; one reply each, in their order, answers of earlier runs taken from `journal`.

    Nothing about a single request raises: look at `outcome`. Raises :class:`UserError` for what concerns
    the whole run (no key, no journal, a full disk).
    """
    if role.batch:
        from star1lib.models.api.batch import run_batch

        return await asyncio.to_thread(run_batch, role, requests, journal, progress=progress)
    with Journal(journal) as book:
        todo = plan(role, requests, book)
        failed: dict[str, Reply] = {}
        if todo.missing:
            with Meter(role, len(todo.missing), book.spent(role.name), progress) as meter:
                work = _Run(role, book, meter)
                if role.remote:
                    await work.serve(todo.missing)
                else:
                    work.compute(todo.missing)
            failed = work.failed
        return collect(requests, todo, book, failed)


def run(role: Role, requests: Sequence[Request], journal: Path, progress: bool = True) -> list[Reply]:
    """:func:`arun` for callers without an event loop, and for notebooks, which have one of their own."""
    return _blocking(lambda: arun(role, requests, journal, progress))


def _blocking(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(start())
    result: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()
    loop = asyncio.new_event_loop()
    task = loop.create_task(start())

    def body() -> None:
        try:
            result.append(loop.run_until_complete(task))
        except BaseException as err:
            errors.append(err)
        finally:
            loop.close()
            done.set()

    threading.Thread(target=body, name="engine").start()
    try:
        done.wait()
    except BaseException:
        # An interrupt reaches the caller's thread: stop the run, keep what has arrived. An event and not
        # the thread's join, which counts an interrupted wait as the end of the thread.
        loop.call_soon_threadsafe(task.cancel)
        done.wait()
        raise
    if errors:
        raise errors[0]
    return result[0]


def ask(
    role: Role, requests: Sequence[Request], parser: Callable[[str], T], journal: Path, progress: bool = True
) -> tuple[dict[str, T], list[ErrorRow]]:
    """Run `requests` and read each answer with `parser`; what it refuses is asked once more with the complaint.

    Returns the values by request id, and an error row for every request without one. Nothing that a
    model says raises.
    """
    values: dict[str, T] = {}
    rows: dict[str, ErrorRow] = {}
    again: list[Request] = []
    by_id = {request.id: request for request in requests}
    for reply in run(role, requests, journal, progress):
        row = _read(reply, parser, values)
        if row is None:
            continue
        rows[reply.id] = row
        if reply.outcome == "ok":
            again.append(_complaining(by_id[reply.id], reply.text, row.reason))
    if again:
        for reply in run(role, again, journal, progress):
            row = _read(reply, parser, values)
            if row is None:
                del rows[reply.id]
            else:
                rows[reply.id] = row.model_copy(update={"reason": f"{row.reason} (asked twice)"})
    if rows:
        log.warning("role %s: %d of %d answers could not be used", role.name, len(rows), len(requests))
    return values, list(rows.values())


def _complaining(request: Request, text: str, reason: str) -> Request:
    messages = [
        *request.messages,
        {"role": "assistant", "content": text},
        {"role": "user", "content": _COMPLAINT.format(reason=reason)},
    ]
    return dataclasses.replace(request, messages=messages, screen=screened_text(request))


def _read(reply: Reply, parser: Callable[[str], T], values: dict[str, T]) -> ErrorRow | None:
    if reply.outcome != "ok":
        return ErrorRow(id=reply.id, reason=f"{reply.outcome}: {reply.error}", raw=reply.text)
    try:
        values[reply.id] = parser(reply.text)
    except ParseError as err:
        return ErrorRow(id=reply.id, reason=err.reason, raw=reply.text)
    except Exception as err:
        return ErrorRow(id=reply.id, reason=f"the answer could not be read ({type(err).__name__})", raw=reply.text)
    return None


def write_errors(path: Path, rows: Sequence[ErrorRow]) -> int:
    """Write error rows, raw text included, as JSONL; returns how many. The only place where raw text goes."""
    safe = [json.loads(json.dumps(row.model_dump()).encode("ascii")) for row in rows]
    return write_jsonl(path, safe)
