"""An OpenAI-compatible server that misbehaves on request.

`plan` maps the last user message of a request to the faults that its successive calls meet; when the
list is used up (or the message is not in it), the call is answered well. Runs in a thread of the test.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any


@dataclass
class Call:
    """One request as the server saw it."""

    prompt: str
    body: dict[str, Any]
    headers: dict[str, str]
    at: float
    path: str


@dataclass
class Stats:
    """What the server has seen so far."""

    calls: list[Call] = field(default_factory=list)
    open_connections: int = 0
    in_flight: int = 0
    most_in_flight: int = 0


def answer_to(prompt: str) -> str:
    """The deterministic good answer to `prompt`."""
    return "answer " + hashlib.sha256(prompt.encode()).hexdigest()[:12]


def completion(
    message: dict[str, Any], finish_reason: str = "stop", prompt_tokens: int = 12, completion_tokens: int = 7
) -> dict[str, Any]:
    """The body of a chat completion."""
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 0,
        "model": "test",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def _http(status: int, body: bytes, headers: dict[str, str] | None = None, kind: str = "application/json") -> bytes:
    lines = [f"HTTP/1.1 {status} Status", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def _error(status: int, message: str = "the server says no", code: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": "test", "code": code, "status": status}}).encode()


class FaultServer:
    """Context manager: a server on a free loopback port, driven by `plan`."""

    def __init__(
        self,
        plan: dict[str, list[str]] | None = None,
        delay: float = 0.0,
        replies: dict[str, Any] | None = None,
        keep_calls: bool = True,
    ) -> None:
        self.plan = {prompt: list(faults) for prompt, faults in (plan or {}).items()}
        self.delay = delay
        self.replies = replies or {}
        self.keep_calls = keep_calls
        self.stats = Stats()
        self.received = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._stop: asyncio.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def calls(self) -> list[Call]:
        return self.stats.calls

    def count(self, prompt: str) -> int:
        """How often `prompt` was asked."""
        return sum(call.prompt == prompt for call in self.calls)

    def __enter__(self) -> FaultServer:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self.main())
        self._loop.close()

    async def main(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        pending = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.stats.open_connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ", 2)
                headers = {
                    name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self.respond(method, path, headers, body, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.stats.open_connections -= 1
            writer.close()

    async def respond(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; False closes the connection."""
        if not path.split("?")[0].endswith("/chat/completions"):
            writer.write(_http(404, _error(404, "no such path")))
            return True
        request = json.loads(body)
        prompt = next((m["content"] for m in reversed(request["messages"]) if m["role"] == "user"), "")
        self.received += 1
        if self.keep_calls:
            self.stats.calls.append(Call(prompt, request, headers, time.monotonic(), path))
        self.stats.in_flight += 1
        self.stats.most_in_flight = max(self.stats.most_in_flight, self.stats.in_flight)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            faults = self.plan.get(prompt)
            fault = faults.pop(0) if faults else "ok"
            return await self._act(fault, prompt, writer)
        finally:
            self.stats.in_flight -= 1

    async def _act(self, fault: str, prompt: str, writer: asyncio.StreamWriter) -> bool:
        name, _, argument = fault.partition(":")
        good = json.dumps(self.replies.get(prompt) or completion({"content": answer_to(prompt)})).encode()
        if name == "cut":  # in the middle of the body
            writer.write(_http(200, good)[:-20])
            return False
        if name == "hang_up":  # before any answer
            return False
        if name == "slow":  # the head at once, the body one piece at a time
            whole = _http(200, good)
            for start in range(0, len(whole), 64):
                writer.write(whole[start : start + 64])
                await asyncio.sleep(float(argument) * 64 / len(whole))
            return True
        writer.write(self._whole(name, argument, good))
        return True

    def _whole(self, name: str, argument: str, good: bytes) -> bytes:
        if name == "ok":
            return _http(200, good)
        if name.isdigit():
            return _http(int(name), _error(int(name)), {"Retry-After": argument} if argument else None)
        if name == "quota":
            return _http(429, _error(429, "you have used up your quota", "insufficient_quota"))
        if name == "truncated":
            return _http(200, good[: len(good) // 2])
        if name == "html":
            return _http(200, b"<html><body>Bad gateway</body></html>", kind="text/html")
        if name == "text_json":  # a good body under a wrong label
            return _http(200, good, kind="text/plain")
        if name == "list":
            return _http(200, b"[1, 2, 3]")
        if name == "binary":
            return _http(200, b"\xff\xfe\x00\x01", kind="application/octet-stream")
        bodies: dict[str, dict[str, Any]] = {
            "refusal": completion({"content": None, "refusal": "I can't help with that."}),
            "empty_choices": {**completion({"content": ""}), "choices": []},
            "empty": completion({"content": ""}),
            "null": completion({"content": None}),
            "length": completion({"content": "half of an ans"}, "length"),
            "filter": completion({"content": ""}, "content_filter"),
            "no_usage": {key: value for key, value in completion({"content": "x"}).items() if key != "usage"},
            "odd_choice": {**completion({"content": "x"}), "choices": ["what"]},
        }
        return _http(200, json.dumps(bodies[name]).encode())
