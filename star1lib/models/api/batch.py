"""The OpenAI Batch API: the same requests at half price, answered within a day.

A file beside the journal remembers what was submitted, so that a run that is stopped while it waits
goes on waiting, and nothing is submitted twice: a submission is announced there before it is made and
looked up on the server when its outcome was not written down.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from star1lib.errors import UserError, shorten
from star1lib.files import fingerprint, read_json, write_json
from star1lib.models.api.backends import Answer, CallFailed, Reply, Request
from star1lib.models.api.journal import Journal
from star1lib.models.api.plan import Plan, collect, estimated_tokens, plan, record_of, reply_of, unsent
from star1lib.models.api.progress import Meter
from star1lib.models.api.served import answer_of, request_body
from star1lib.models.roles import BATCH_DISCOUNT, Role, api_key

log = logging.getLogger(__name__)

MAX_REQUESTS = 50_000
MAX_BYTES = 190_000_000
_ENDPOINT = "/v1/chat/completions"
_OVER = ("completed", "failed", "expired", "cancelled")
Sleep = Callable[[float], None]


def run_batch(
    role: Role,
    requests: Sequence[Request],
    journal: Path,
    *,
    progress: bool = True,
    poll_s: float = 60.0,
    sleep: Sleep = time.sleep,
) -> list[Reply]:
    """Like :func:`.engine.run`, by batches: submit what is missing, wait, journal the answers.

    With `max_cost_usd`, requests are submitted in order while their worst case can be afforded. Raises
    :class:`UserError` when the service refuses the key or a batch as a whole.
    """
    with Journal(journal) as book:
        todo = plan(role, requests, book)
        failed: dict[str, Reply] = {}
        if todo.missing:
            with Meter(role, len(todo.missing), book.spent(role.name), progress) as meter:
                failed = _Batches(role, book, journal, meter).answer(todo, poll_s, sleep)
        return collect(requests, todo, book, failed)


class _Batches:
    def __init__(self, role: Role, book: Journal, journal: Path, meter: Meter) -> None:
        self.role, self.book, self.meter = role, book, meter
        self.path = journal.with_name(f"{journal.name}.{role.name}.batches.json")
        # Half the listed price is what the journal records.
        price = role.price
        half = price and price.model_copy(
            update={"input": price.input * BATCH_DISCOUNT, "output": price.output * BATCH_DISCOUNT}
        )
        self.half = role.model_copy(update={"price": half})
        self.client = self._client()
        self.state: dict[str, Any] = read_json(self.path) if self.path.exists() else {"batches": []}

    def _client(self) -> Any:
        import openai

        common: dict[str, Any] = {"api_key": api_key(self.role), "max_retries": max(2, self.role.retries)}
        if self.role.backend == "azure" and self.role.api_version:
            return openai.AzureOpenAI(
                azure_endpoint=self.role.address or "", api_version=self.role.api_version, **common
            )
        return openai.OpenAI(base_url=self.role.address, **common)

    def answer(self, todo: Plan, poll_s: float, sleep: Sleep) -> dict[str, Reply]:
        """Bring in what earlier runs submitted, submit the rest, wait for it; returns those without an answer."""
        failed: dict[str, Reply] = {}
        asked: dict[str, Request] = dict(todo.missing)
        try:
            self._settle(asked, failed, poll_s, sleep)
            left = {key: request for key, request in asked.items() if key not in self.book and key not in failed}
            for part in self._affordable(left, failed):
                self._submit(part)
            self._settle(asked, failed, poll_s, sleep)
        except UserError:
            raise
        except Exception as err:
            status = getattr(err, "status_code", None)
            what = type(err).__name__ + (f", HTTP {status}" if status else "")
            raise UserError(
                f"role '{self.role.name}': the batch service cannot be used ({what}); run again to go on with what "
                "was submitted."
            ) from err
        for key, request in asked.items():
            if key not in self.book and key not in failed:
                failed[key] = unsent(request.id, "error", "the batch came back without an answer to it")
        return failed

    def _affordable(self, left: dict[str, Request], failed: dict[str, Reply]) -> Iterator[dict[str, Request]]:
        """Parts within the service's limits, as far as the money goes."""
        part: dict[str, Request] = {}
        spent, size = self.book.spent(self.role.name), 0
        for key, request in left.items():
            if self.half.price and self.role.max_cost_usd is not None:
                spent += self.half.price.cost(estimated_tokens(request.messages), self.role.max_tokens)
                if spent > self.role.max_cost_usd:
                    reason = f"not sent: max_cost_usd {self.role.max_cost_usd:g} would be passed"
                    failed[key] = unsent(request.id, "over_budget", reason)
                    self.meter.done("over_budget", self.book.spent(self.role.name))
                    continue
            length = len(self._line(key, request))
            if part and (len(part) >= MAX_REQUESTS or size + length > MAX_BYTES):
                yield part
                part, size = {}, 0
            part[key] = request
            size += length
        if part:
            yield part

    def _line(self, key: str, request: Request) -> bytes:
        body = request_body(self.role, request)
        line = {"custom_id": key, "method": "POST", "url": _ENDPOINT, "body": body}
        return json.dumps(line, separators=(",", ":")).encode() + b"\n"

    def _submit(self, part: dict[str, Request]) -> None:
        mark = fingerprint([sorted(part), len(self.state["batches"])])
        entry: dict[str, Any] = {"mark": mark, "id": None, "keys": list(part)}
        self.state["batches"].append(entry)
        self._save()
        content = b"".join(self._line(key, request) for key, request in part.items())
        file = self.client.files.create(file=(f"{mark}.jsonl", content), purpose="batch")
        batch = self.client.batches.create(
            input_file_id=file.id, endpoint=_ENDPOINT, completion_window="24h", metadata={"star1_mark": mark}
        )
        entry["id"] = batch.id
        self._save()
        log.info("role %s: %d requests submitted as %s", self.role.name, len(part), batch.id)

    def _save(self) -> None:
        write_json(self.path, self.state)

    def _settle(self, asked: dict[str, Request], failed: dict[str, Reply], poll_s: float, sleep: Sleep) -> None:
        """Wait for every batch on record, journal its answers, and strike it off."""
        for entry in list(self.state["batches"]):
            if entry["id"] is None:
                entry["id"] = self._find(entry["mark"])
            if entry["id"] is not None:
                batch = self.client.batches.retrieve(entry["id"])
                while batch.status not in _OVER:
                    sleep(poll_s)
                    batch = self.client.batches.retrieve(entry["id"])
                self._read(batch, entry, asked, failed)
            self.state["batches"].remove(entry)
            self._save()

    def _find(self, mark: str) -> str | None:
        """The batch of an announced submission that was cut short, if it reached the server."""
        for batch in self.client.batches.list(limit=100):
            if (batch.metadata or {}).get("star1_mark") == mark:
                return str(batch.id)
        return None

    def _read(self, batch: Any, entry: dict[str, Any], asked: dict[str, Request], failed: dict[str, Reply]) -> None:
        if batch.status == "failed":
            self.state["batches"].remove(entry)
            self._save()
            errors = getattr(batch.errors, "data", None) or []
            why = shorten(str(errors[0].message), 160) if errors else "no reason given"
            raise UserError(
                f"role '{self.role.name}': the service refused the batch ({why}); correct it and run again."
            )
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id:
                for line in self.client.files.content(file_id).content.split(b"\n"):
                    self._keep(line, entry, asked, failed)

    def _keep(self, line: bytes, entry: dict[str, Any], asked: dict[str, Request], failed: dict[str, Reply]) -> None:
        """Journal one line of a result file; lines that are no results are left for the next run."""
        try:
            value = json.loads(line)
            key = value["custom_id"]
        except (ValueError, TypeError, KeyError):
            return
        if key in self.book or key not in entry["keys"]:
            return
        # A batch of an earlier run may hold requests that this run does not make: they are paid for, so kept.
        request = asked.get(key) or Request(key, [])
        try:
            answer = self._answer(value)
        except CallFailed as err:
            answer = Answer("", "", "", err.input_tokens, err.output_tokens, "error", err.message)
        record = record_of(self.half, key, request, answer)
        self.book.append(record)
        if answer.outcome == "error":
            failed[key] = reply_of(request.id, record)
        if key in asked:
            self.meter.done(answer.outcome, self.book.spent(self.role.name))

    def _answer(self, value: dict[str, Any]) -> Answer:
        response = value.get("response")
        status = response.get("status_code") if isinstance(response, dict) else None
        if isinstance(response, dict) and status == 200:
            return answer_of(response.get("body"))
        error = value.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        raise CallFailed(f"the batch reports {code or f'HTTP {status}'}")
