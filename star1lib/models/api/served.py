"""Roles played by an OpenAI-compatible server: requests out, checked answers in.

The SDK does addresses, authentication and connections; retries, rate limits and the reading of
replies are this project's, so that a broken reply is a named failure and never an exception.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
from typing import Any

from star1lib.errors import UserError, shorten
from star1lib.models.api.backends import Answer, CallFailed, Request, split_reasoning
from star1lib.models.api.limits import RETRYABLE, retry_after
from star1lib.models.roles import Role, api_key, is_loopback

log = logging.getLogger(__name__)

_WORKERS_PER_CLIENT = 16
_SECRET = re.compile(r"\b(?:sk|nvapi|key|Bearer)[-_ ][A-Za-z0-9_\-*.]{6,}")
# A whole answer ends for one of these reasons; one that ends for any other is cut off.
_ENDED = frozenset({"", "stop", "stop_sequence", "end_turn", "eos", "eos_token", "tool_calls", "function_call"})
_FATAL_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "invalid_api_key"})


def request_body(role: Role, request: Request) -> dict[str, Any]:
    """The JSON body of a chat completion for `request`; unset settings are left to the server."""
    body: dict[str, Any] = {"model": role.model, "messages": request.messages, role.token_field: role.max_tokens}
    body |= {
        name: value
        for name, value in (("temperature", role.temperature), ("top_p", role.top_p), ("seed", role.seed))
        if value is not None
    }
    if role.structured and request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": request.schema},
        }
    return body | role.extra


def read_completion(content: bytes) -> Answer:
    """The answer in the body of a chat completion; :class:`CallFailed` when the body is not one."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as err:
        raise CallFailed("the reply is not complete JSON", retryable=True) from err
    return answer_of(value)


def answer_of(value: Any) -> Answer:
    """The answer in a decoded chat completion; :class:`CallFailed` when it holds none."""
    if not isinstance(value, dict):
        raise CallFailed("the reply is not a chat completion", retryable=True)
    used_in, used_out = _usage(value.get("usage"))
    try:
        choice = value["choices"][0]
        message = choice["message"]
        finish = str(choice.get("finish_reason") or "")
        content, reasoning = _text(message.get("content")), _text(message.get("reasoning_content"))
        refusal = _text(message.get("refusal")) or _text(message.get("content"), "refusal")
        reasoning = reasoning or _text(message.get("reasoning"))
    except (KeyError, IndexError, TypeError, AttributeError) as err:
        raise CallFailed(
            "the reply holds no choice", retryable=True, input_tokens=used_in or 0, output_tokens=used_out or 0
        ) from err
    thinking, text = split_reasoning(content, reasoning)
    if finish == "content_filter":
        return Answer(text, thinking, finish, used_in, used_out, "filtered", "stopped by the provider's filter")
    if refusal and not text:
        return Answer(refusal, thinking, finish, used_in, used_out, "filtered", "the server reports a refusal")
    if finish not in _ENDED:
        return Answer(text, thinking, finish, used_in, used_out, "cut_off", "cut off at the token limit")
    if not text.strip():
        raise CallFailed(
            "the answer is empty", retryable=True, paid=True, input_tokens=used_in or 0, output_tokens=used_out or 0
        )
    return Answer(text, thinking, finish, used_in, used_out, "ok", None)


def _text(value: Any, kind: str = "text") -> str:
    """Content as text: a string, or the parts of a list that are of one kind."""
    if isinstance(value, list):
        return "".join(str(part.get(kind) or "") for part in value if isinstance(part, dict))
    return value if isinstance(value, str) and kind == "text" else ""


def _usage(value: Any) -> tuple[int | None, int | None]:
    def count(name: str) -> int | None:
        number = value.get(name) if isinstance(value, dict) else None
        return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 10**9 else None

    return count("prompt_tokens"), count("completion_tokens")


def make_client(role: Role, http_client: Any = None) -> Any:
    """An async SDK client for `role` without retries of its own; the key comes from the environment."""
    import openai

    key = api_key(role)
    common: dict[str, Any] = {"max_retries": 0, "timeout": role.timeout_s, "http_client": http_client}
    if role.backend == "azure" and role.api_version:
        return openai.AsyncAzureOpenAI(
            azure_endpoint=role.address or "", api_version=role.api_version, api_key=key, **common
        )
    return openai.AsyncOpenAI(base_url=role.address, api_key=key, **common)


def _http_client(context: Any, role: Role) -> Any:
    import httpx2
    import openai

    options = {
        "verify": context,
        "limits": httpx2.Limits(max_connections=role.concurrency, max_keepalive_connections=role.concurrency),
        "timeout": role.timeout_s,
        # A proxy of the environment cannot reach this machine's own loopback.
        "trust_env": not is_loopback(role.address),
    }
    try:
        import aiohttp  # noqa: F401 - half the CPU time per call of the other transport

        return openai.DefaultAioHttpClient(**options)
    except ImportError:
        return openai.DefaultAsyncHttpxClient(**options)


class ServedBackend:
    """A role behind HTTP: one request at a time per worker, over a few clients that share one TLS context."""

    def __init__(self, role: Role) -> None:
        import httpx2

        self._role = role
        self._secret = api_key(role)
        if role.key_variable and str(role.address).startswith("http:") and not is_loopback(role.address):
            log.warning("role %s: its key travels unencrypted to %s; use https", role.name, role.address)
        context = httpx2.create_ssl_context()
        count = -(-role.concurrency // _WORKERS_PER_CLIENT)
        self._clients = [make_client(role, _http_client(context, role)) for _ in range(count)]
        self._turn = itertools.cycle(self._clients)
        self._response = httpx2.Response

    def __repr__(self) -> str:
        return f"ServedBackend(role={self._role.name!r}, address={self._role.address!r})"

    async def complete(self, request: Request) -> Answer:
        """Send one request and read its answer; every failure is a :class:`CallFailed`."""
        try:
            async with asyncio.timeout(self._role.timeout_s):
                response = await next(self._turn).post(
                    "/chat/completions", body=request_body(self._role, request), cast_to=self._response
                )
                content = response.content
        except (CallFailed, UserError, asyncio.CancelledError):
            raise
        except TimeoutError as err:
            raise CallFailed(f"no full answer within {self._role.timeout_s:g} s", retryable=True) from err
        except Exception as err:
            raise self._failure(err) from err
        return read_completion(content)

    def _failure(self, err: Exception) -> CallFailed:
        import openai

        if isinstance(err, openai.APIConnectionError | OSError):
            return CallFailed(f"the connection failed ({type(err.__cause__ or err).__name__})", retryable=True)
        if not isinstance(err, openai.APIStatusError):
            return CallFailed(f"the request cannot be sent ({type(err).__name__})")
        status, code = err.status_code, str(getattr(err, "code", None) or "")
        detail = err.body.get("message") if isinstance(err.body, dict) else None
        message = f"HTTP {status}" + (f" {code}" if code else "") + (f": {self.clean(str(detail))}" if detail else "")
        fatal = status in (401, 404) or code in _FATAL_CODES
        return CallFailed(
            message,
            retryable=status in RETRYABLE and not fatal,
            fatal=fatal,
            filtered=status == 400 and code in ("content_filter", "content_policy_violation"),
            retry_after=retry_after(err.response.headers),
            throttled=status in (429, 503),
        )

    def clean(self, text: str) -> str:
        """`text` shortened and free of anything that looks like a key: servers repeat keys in their errors."""
        return shorten(_SECRET.sub("[key]", text.replace(self._secret, "[key]") if self.remote_key else text), 200)

    @property
    def remote_key(self) -> bool:
        """True when a real key is in use."""
        return bool(self._role.key_variable)

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.close()
