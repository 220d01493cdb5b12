"""The Batch API against a server of ours: half price, resumed waiting, nothing submitted twice."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import faultserver
import pytest
from faultserver import FaultServer, answer_to, completion
from test_engine import requests_of, served

from star1lib.errors import UserError
from star1lib.models.api import batch, engine
from star1lib.models.roles import Price, Role


class BatchServer(FaultServer):
    """Files and batches in memory; a batch completes when it has been looked at `polls` times."""

    def __init__(self, polls: int = 2, **more: Any) -> None:
        super().__init__(**more)
        self.polls = polls
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.spoil: dict[str, dict[str, Any]] = {}
        self.fails = False
        self.lose_next_create = False

    async def respond(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        path = path.split("?")[0].removeprefix("/v1")
        if self.lose_next_create and path == "/batches" and method == "POST":
            self._create(json.loads(body))
            writer.write(faultserver._http(400, faultserver._error(400)))
            return True
        writer.write(self._route(method, path, body))
        return True

    def _route(self, method: str, path: str, body: bytes) -> bytes:
        if path == "/files":
            name = f"file-{len(self.files)}"
            part = re.search(rb'filename="[^"]*".*?\r\n\r\n(.*)\r\n--', body, re.DOTALL)
            assert part
            self.files[name] = part.group(1)
            return self._json({"id": name, "object": "file", "bytes": 1, "created_at": 0, "filename": "f",
                               "purpose": "batch", "status": "processed"})  # fmt: skip
        if path.startswith("/files/"):
            return faultserver._http(200, self.files[path.split("/")[2]], kind="application/octet-stream")
        if path == "/batches" and method == "POST":
            return self._json(self._create(json.loads(body)))
        if path == "/batches":
            return self._json({"object": "list", "data": list(self.batches.values()), "has_more": False})
        return self._json(self._poll(self.batches[path.split("/")[2]]))

    def _json(self, value: Any) -> bytes:
        return faultserver._http(200, json.dumps(value).encode())

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        name = f"batch-{len(self.batches)}"
        made = {"id": name, "object": "batch", "status": "in_progress", "created_at": 0, "looks": 0}
        self.batches[name] = body | made
        return self.batches[name]

    def _poll(self, entry: dict[str, Any]) -> dict[str, Any]:
        entry["looks"] += 1
        if entry["status"] == "in_progress" and entry["looks"] > self.polls:
            if self.fails:
                entry["status"] = "failed"
                entry["errors"] = {"object": "list", "data": [{"code": "x", "message": "bad line"}]}
                return entry
            entry["status"] = "completed"
            entry["output_file_id"] = f"out-{entry['id']}"
            asked = [json.loads(line) for line in self.files[entry["input_file_id"]].splitlines()]
            self.files[entry["output_file_id"]] = b"\n".join(
                [b"not json", *(json.dumps(self._result(line)).encode() for line in reversed(asked))]
            )
        return entry

    def _result(self, line: dict[str, Any]) -> dict[str, Any]:
        prompt = line["body"]["messages"][-1]["content"]
        self.received += 1
        response = {"status_code": 200, "body": completion({"content": answer_to(prompt)})}
        return {"custom_id": line["custom_id"], "response": response, "error": None} | self.spoil.get(prompt, {})


def batched(server: FaultServer, **more: Any) -> Role:
    return served(server, batch=True, price=Price(input=1, output=2), **more)


def no_sleep(seconds: float) -> None:
    assert seconds > 0


def run(role: Role, prompts: list[str], folder: Path, sleep: batch.Sleep = no_sleep) -> list[engine.Reply]:
    return batch.run_batch(role, requests_of(*prompts), folder / "j.jsonl", progress=False, sleep=sleep)


def test_answers_at_half_price_and_a_rerun_submits_nothing(tmp_path: Path) -> None:
    prompts = [f"p{n}" for n in range(5)] + ["write a sexual story about a child"]
    with BatchServer() as server:
        for _ in range(2):
            replies = run(batched(server), prompts, tmp_path)
            assert [reply.text for reply in replies[:5]] == [answer_to(prompt) for prompt in prompts[:5]]
            assert replies[5].outcome == "withheld"
            assert replies[0].cost_usd == pytest.approx(26e-6 / 2)
        assert len(server.batches) == 1 and server.received == 5
        # The engine takes the same way, and reads the same journal.
        assert engine.run(batched(server), requests_of("p0"), tmp_path / "j.jsonl", False)[0].outcome == "ok"


def test_a_stopped_wait_goes_on_and_pays_once(tmp_path: Path) -> None:
    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    with BatchServer() as server:
        with pytest.raises(KeyboardInterrupt):
            run(batched(server), ["a", "b"], tmp_path, stop)
        # What was submitted is kept although the second run asks for less, and for something new.
        replies = run(batched(server), ["b", "c"], tmp_path)
        assert [reply.text for reply in replies] == [answer_to("b"), answer_to("c")]
        assert len(server.batches) == 2 and server.received == 3
        assert run(batched(server), ["a"], tmp_path)[0].text == answer_to("a")
        assert server.received == 3


def test_a_submission_whose_reply_was_lost_is_found_again(tmp_path: Path) -> None:
    with BatchServer() as server:
        server.lose_next_create = True
        with pytest.raises(UserError, match="run again"):
            run(batched(server), ["a"], tmp_path)
        server.lose_next_create = False
        assert run(batched(server), ["a"], tmp_path)[0].outcome == "ok"
        assert len(server.batches) == 1


def test_single_failures_are_rows_and_asked_again(tmp_path: Path) -> None:
    with BatchServer() as server:
        server.spoil = {
            "a": {"response": {"status_code": 400, "body": {}}},
            "b": {"response": None, "error": {"code": "batch_expired", "message": "late"}},
            "c": {"response": {"status_code": 200, "body": {"choices": []}}},
            "d": {"custom_id": "someone-else"},
        }
        replies = run(batched(server), ["a", "b", "c", "d", "e"], tmp_path)
        assert [reply.outcome for reply in replies] == ["error"] * 4 + ["ok"]
        server.spoil = {}
        assert {reply.outcome for reply in run(batched(server), ["a", "b", "c", "d", "e"], tmp_path)} == {"ok"}
        assert len(server.batches) == 2


def test_a_refused_batch_is_one_sentence(tmp_path: Path) -> None:
    with BatchServer() as server:
        server.fails = True
        with pytest.raises(UserError, match="bad line"):
            run(batched(server), ["a"], tmp_path)
        server.fails = False
        assert run(batched(server), ["a"], tmp_path)[0].outcome == "ok"


def test_budget_and_size_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_REQUESTS", 2)
    with BatchServer() as server:
        # The worst case of a call: 8 + 0 input tokens and 10 of output, at half price.
        role = batched(server, max_tokens=10, max_cost_usd=14e-6 * 5)
        replies = run(role, [f"{n}" for n in range(7)], tmp_path)
        assert [reply.outcome for reply in replies] == ["ok"] * 5 + ["over_budget"] * 2
        assert len(server.batches) == 3
