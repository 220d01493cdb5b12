"""Calls to a model in a role, made by Inspect: each answer on disk as it comes, none paid for twice.

A folder belongs to one role. `answers.jsonl` has a line for every answer, appended the moment it is there and found
again by the content of its request; `logs/` has an Inspect log per shard of the work, for the viewer. A run that was
killed is repeated as it is and asks only for what is missing. Inspect makes the calls, retries them, finds out how
many may be open at once and times them out; what is here is the record, the budget, and the asking
again when an answer cannot be read. Text of a model is data, whatever it looks like.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from star1lib import policies
from star1lib.errors import UserError, shorten
from star1lib.files import fingerprint, lock
from star1lib.models import chat
from star1lib.models.answers import ErrorRow, Unreadable, read
from star1lib.models.book import Book, Budget, Outcome, Reply
from star1lib.models.clients import model_of, no_proxy, without_key
from star1lib.models.roles import Price, Role
from star1lib.records import Record
from star1lib.safeguards import sexualizes_minor

if TYPE_CHECKING:
    from inspect_ai.model import ModelOutput

log = logging.getLogger(__name__)
T = TypeVar("T")
FormT = TypeVar("FormT", bound=Record)
Messages = Sequence[Mapping[str, str]]
SHARD = 2000  # requests per Inspect log
_OPEN = 64  # calls of a judge open at once, where its role does not say
_IN_A_ROW = 20  # failures in a row that end a run
_CLIENTS = ("openai", "httpx", "httpx2", "inspect_ai")  # their errors are classified by Inspect
_BYTES_PER_TOKEN = 3.0  # below the usual 4, so that what is reserved is seldom too little
_COMPLAINT = (
    "Your last message could not be used: {reason}. Answer the request again, and write nothing but the answer "
    "in the form that was asked for."
)
# The worst case in USD of the attempt that is under way.
_attempt: contextvars.ContextVar[float] = contextvars.ContextVar("attempt")


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a role: an id of the caller's, chat messages, and what decides whether it may be sent at all.

    `screen` is the text to check, when the prompt carries policy text that would trigger the check by itself; by
    default it is what the user messages say.
    """

    id: str
    messages: Messages
    screen: str | None = None


def run(
    role: Role, requests: Sequence[Request], folder: Path, *, form: type[Record] | None = None, logged: bool = True
) -> Iterator[Reply]:
    """Ask `role` all `requests`; a reply each, in their order, answers of earlier runs taken from `folder`.

    Equal requests are made once. `form` is the schema that a server may hold the answer to. `logged=False` writes no
    Inspect log, for judges that answer inside an evaluation, which has its own. Nothing about a single request
    raises. Raises :class:`UserError` for what ends a run: no key or a refused one, an unknown model, a full disk, a
    folder in use, two requests of one id.
    """
    if len({request.id for request in requests}) < len(requests):
        raise UserError(f"role '{role.name}': two requests have the same id; give each its own.")
    shape = form.model_json_schema() if form and role.structured else None
    keys = [fingerprint([role.name, role.settings(), shape, [dict(m) for m in r.messages]]) for r in requests]
    withheld = {request.id for request in requests if is_withheld(request)}
    with lock(folder, f"role {role.name}"), Book(folder) as book:
        missing: dict[str, Request] = {}
        for key, request in zip(keys, requests, strict=True):
            if key not in book and request.id not in withheld:
                missing.setdefault(key, request)
        work = _Run(role, book, form if role.structured else None)
        if missing:
            work.all(missing, folder / "logs" if logged else None)
        for key, request in zip(keys, requests, strict=True):
            if request.id in withheld:
                yield Reply(request.id, "withheld", error="never sent: it brings a minor and a sexual matter together")
            else:
                unsent = Reply("", "not_sent", error=work.halted or "it was not sent")
                yield replace(book.get(key) or work.failed.get(key, unsent), id=request.id)


def ask(
    role: Role,
    requests: Sequence[Request],
    form: type[FormT] | Callable[[str], T],
    folder: Path,
    *,
    again: bool = True,
    logged: bool = True,
) -> tuple[dict[str, Any], list[ErrorRow]]:
    """:func:`run`, and read each answer as a `form` or by a function that raises :class:`Unreadable`.

    An answer that cannot be read is asked for once more with the complaint, unless `again` is False. Returns the
    values by request id, and an error row for every request without one. Nothing that a model says raises.
    """
    schema = form if isinstance(form, type) and issubclass(form, Record) else None
    reader: Callable[[str], Any] = (lambda text: read(text, schema)) if schema else form  # type: ignore[assignment]
    values: dict[str, Any] = {}
    rows: dict[str, ErrorRow] = {}
    asked, note = list(requests), ""
    while asked:
        by_id = {request.id: request for request in asked}
        replies, asked = run(role, asked, folder, form=schema, logged=logged), []
        for reply in replies:
            if not (reason := _read(reply, reader, values)):
                rows.pop(reply.id, None)
                continue
            rows[reply.id] = ErrorRow(id=reply.id, reason=reason + note, raw=reply.text)
            if again and reply.outcome in ("ok", "empty"):
                asked.append(_complaining(by_id[reply.id], reply.text, reason))
        again, note = False, " (asked twice)"
    if rows:
        log.warning("role %s: %d of %d answers could not be used", role.name, len(rows), len(requests))
    return values, list(rows.values())


def _complaining(request: Request, text: str, reason: str) -> Request:
    said = [{"role": "assistant", "content": text}] if text else []
    complaint = {"role": "user", "content": _COMPLAINT.format(reason=reason)}
    return Request(request.id, [*request.messages, *said, complaint], _screened(request))


def _read(reply: Reply, reader: Callable[[str], Any], values: dict[str, Any]) -> str:
    """Enter what a reply says into `values`; the reason where it cannot be read, else ""."""
    if reply.outcome != "ok":
        return f"{reply.outcome}: {reply.error}"
    try:
        values[reply.id] = reader(reply.text)
    except Exception as err:
        return str(err) if isinstance(err, Unreadable) else f"the answer could not be read ({type(err).__name__})"
    return ""


def _screened(request: Request) -> str:
    if request.screen is not None:
        return request.screen
    return "\n".join(message["content"] for message in request.messages if message["role"] == "user")


def is_withheld(request: Request) -> bool:
    """True when the request must not be sent; the policies' own sentences in a prompt do not count."""
    text = _screened(request)
    if not sexualizes_minor(text):
        return False
    phrases = [rule.text for rule in policies.RULES.values()] + list(policies.CATEGORIES)
    phrases += [words for policy in policies.POLICIES for words in (policy.definition, policy.objective)]
    for phrase in sorted(phrases, key=len, reverse=True):
        text = text.replace(phrase, " ")
    return sexualizes_minor(text)


class _Run:
    """One run over the requests that a book has no answer to."""

    def __init__(self, role: Role, book: Book, form: type[Record] | None) -> None:
        self.role, self.book = role, book
        self.failed: dict[str, Reply] = {}
        self.halted: str | None = None
        self._fatal: UserError | None = None
        self._in_a_row = 0
        self._config: dict[str, Any] = {}
        if form is not None:
            from inspect_ai.model import GenerateConfig, ResponseSchema
            from inspect_ai.util import json_schema

            schema = ResponseSchema(name=form.__name__, json_schema=json_schema(form), strict=True)
            self._config["config"] = GenerateConfig(response_schema=schema)

    def all(self, missing: Mapping[str, Request], logs: Path | None) -> None:
        """Ask shard by shard; raises what ends the run after everything in flight has come in."""
        from tqdm.auto import tqdm

        items = list(missing.items())
        with tqdm(total=len(items), desc=self.role.name, unit="call", disable=None) as self._bar:
            for start in range(0, len(items), SHARD):
                if not self.halted:
                    self._outside_the_loop(self._shard, items[start : start + SHARD], logs)
        if self._fatal:
            raise self._fatal

    def _outside_the_loop(self, work: Callable[..., None], *given: Any) -> None:
        """`work` in a thread of its own: a notebook's kernel has an event loop running already.

        An interrupt reaches the caller: nothing more is sent, what is in flight is kept, and the interrupt goes on.
        """
        with ThreadPoolExecutor(1, "calls") as thread:
            try:
                # A fresh context: inside an evaluation, Inspect's own would be taken for this one's.
                thread.submit(contextvars.Context().run, work, *given).result()
            except BaseException:
                self._halt("the run was interrupted")
                raise

    def _halt(self, reason: str) -> None:
        self.halted = self.halted or reason

    def _shard(self, part: Sequence[tuple[str, Request]], logs: Path | None) -> None:
        with no_proxy(self.role):
            self.model = model_of(self.role)
            self._watch()
            self.budget = Budget(self.role.max_cost_usd, self.book.spent)
            if logs is None:
                asyncio.run(self._unlogged(part))
            else:
                self._logged(part, logs)

    async def _unlogged(self, part: Sequence[tuple[str, Request]]) -> None:
        # A call that waits for its turn is not yet sent, so that a halt reaches it.
        turns = asyncio.Semaphore(self.role.max_connections or _OPEN)

        async def in_turn(key: str, request: Request) -> None:
            async with turns:
                await self._one(key, request)

        await asyncio.gather(*(in_turn(key, request) for key, request in part))

    def _logged(self, part: Sequence[tuple[str, Request]], logs: Path) -> None:
        import inspect_ai
        from inspect_ai import Task
        from inspect_ai.dataset import MemoryDataset, Sample
        from inspect_ai.solver import Generate, TaskState, solver

        by_id = {request.id: (key, request) for key, request in part}

        @solver(name="asked")
        def asked() -> Any:
            async def solve(state: TaskState, generate: Generate) -> TaskState:
                output = await self._one(*by_id[str(state.sample_id)])
                if output is not None and output.choices:
                    state.output = output
                    state.messages.append(output.message)
                return state

            return solve

        samples = [Sample(id=request.id, input=_chat(request.messages)) for _, request in part]
        [done] = inspect_ai.eval(
            Task(dataset=MemoryDataset(samples, name=self.role.name), solver=asked(), name=self.role.name),
            model=self.model, log_dir=str(logs), display="none", score=False, fail_on_error=False, log_realtime=False,
            max_samples=self.role.max_connections, log_header_only=True,
            log_level="warning", log_model_api=False,
        )  # fmt: skip
        if self._fatal and done.location:
            # A server's complaint about a key may repeat a part of it.
            Path(done.location.removeprefix("file://")).unlink(missing_ok=True)
        if done.status == "error":
            self._halt(f"Inspect ended with an error ({shorten(str(done.error and done.error.message), 160)})")

    async def _one(self, key: str, request: Request) -> ModelOutput | None:
        """Ask one request and write down what came of it; the output, for the log."""
        worst = self._worst(request)
        held = not self.halted and await self.budget.hold(worst)
        if not held:
            self._halt(f"max_cost_usd {self.role.max_cost_usd or 0:g} would be passed ({self.budget.spent:.4f} spent)")
        if self.halted:  # perhaps while it waited
            self.budget.release(worst if held else 0.0)
            self.failed[key] = Reply("", "not_sent", error=f"not sent: {self.halted}")
            return None
        output: ModelOutput | None = None
        _attempt.set(worst)
        try:
            output = await self.model.generate(_chat(request.messages), **self._config)
            reply = _reply(request.id, output, self.role.price, worst)
            self.budget.spent += reply.cost_usd
            self.book.append({"key": key, **asdict(reply)})
            self._in_a_row = 0
        except UserError as err:
            self._end(err)
        except Exception as err:
            self.failed[key] = Reply("", "error", error=self._failure(err))
        finally:
            self.budget.release(worst)
            self._bar.set_postfix_str(f"{self.budget.spent:.2f} USD", refresh=False)
            self._bar.update()
        return output

    def _worst(self, request: Request) -> float:
        sent = sum(8 + len(message["content"].encode("utf-8", "replace")) for message in request.messages)
        return self.role.price.cost(sent / _BYTES_PER_TOKEN, self.role.max_tokens) if self.role.price else 0.0

    def _end(self, err: UserError) -> None:
        self._fatal = self._fatal or err
        self._halt("the run was ended")

    def _watch(self) -> None:
        """Let Inspect's retrying know what a failed attempt may have cost, and when there is no sense in another."""
        inner = self.model.api.should_retry

        def should_retry(err: Exception) -> Any:
            if _status(err) == 401 or _code(err) in ("insufficient_quota", "billing_hard_limit_reached"):
                return False
            decision = inner(err)
            # What is no error of the client is a reply that it could not make sense of.
            unread = not decision and type(err).__module__.split(".")[0] not in _CLIENTS
            if _status(err) is None and (decision or unread):
                self._lost(err)
                if not self.budget.fits(0.0):
                    return False
            return decision or unread

        self.model.api.should_retry = should_retry  # type: ignore

    def _lost(self, err: BaseException) -> None:
        """Count the worst case of an attempt without an answer: the server may have billed it all the same."""
        if (worst := _attempt.get(0.0)) and not getattr(err, "counted", False):
            err.counted = True  # type: ignore[attr-defined]
            self.budget.spent += worst
            self.book.append({"key": "", "cost_usd": worst})

    def _failure(self, err: BaseException) -> str:
        """Why a call failed, free of the key; a refused key or an unknown model ends the run, as do many in a row."""
        attempt = getattr(err, "last_attempt", None)  # tenacity's, after Inspect's last retry
        cause = (attempt.exception() if attempt is not None else None) or err
        status, code = _status(cause), _code(cause)
        again = "and run the same command again, what was answered is kept."
        where = f"role '{self.role.name}' ({self.role.model})"
        if status == 401:
            self._end(UserError(f"{where}: the server refuses the key (HTTP 401); export a valid one {again}"))
        elif status == 404:
            self._end(UserError(f"{where}: the server knows no such model or address (HTTP 404); correct it {again}"))
        elif code in ("insufficient_quota", "billing_hard_limit_reached"):
            self._end(UserError(f"{where}: the account's quota is used up; top it up {again}"))
        if status is None:
            self._lost(cause)
        self._in_a_row += 1
        said = without_key(f"HTTP {status}" if status else f"{type(cause).__name__}: {cause}", self.model)
        if self._in_a_row >= _IN_A_ROW:
            self._halt(f"{self._in_a_row} calls in a row failed, the last with {said}")
        return said


def _status(err: BaseException) -> int | None:
    return getattr(err, "status_code", None)


def _code(err: BaseException) -> str:
    return str(getattr(err, "code", None) or "")


def _reply(asked: str, output: ModelOutput, price: Price | None, worst: float) -> Reply:
    """What a model's output says, thinking split off; an output without token counts is charged its worst case."""
    thought = chat.thought_of(output)
    outcome: Outcome = "ok" if thought.answer else "empty"
    if output.stop_reason == "content_filter" or chat.refused(output):
        outcome = "filtered"
    elif output.stop_reason not in ("stop", "tool_calls"):
        outcome = "cut_off"
    why = {
        "filtered": "stopped by the provider's filter, or reported as a refusal",
        "cut_off": f"cut off ({output.stop_reason})",
        "empty": "the answer is empty",
    }
    used = output.usage
    tokens = (max(0, used.input_tokens), max(0, used.output_tokens)) if used else (0, 0)
    cost = (price.cost(*tokens) if any(tokens) else worst) if price else 0.0
    return Reply(asked, outcome, _whole(thought.answer), _whole(thought.thinking), why.get(outcome), *tokens, cost)


def _whole(text: str) -> str:
    """`text` with a question mark for each half of a surrogate pair, which can be neither sent nor stored."""
    return text.encode("utf-8", "replace").decode()


def _chat(messages: Messages) -> list[Any]:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    return [kinds[m["role"]](content=_whole(m["content"])) for m in messages]
