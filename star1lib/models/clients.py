"""The Inspect model of a role: its key, its address, and no more trust in a server than it needs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from star1lib.errors import UserError, shorten
from star1lib.models.roles import LOCAL, Role, is_loopback

if TYPE_CHECKING:
    from inspect_ai.model import Model

MAX_BODY = 64 << 20  # bytes of a reply that are read


def model_of(role: Role) -> Model:
    """The Inspect model of a role; :class:`UserError` when its key, its address or its package is missing.

    No redirect is followed and no endless reply is read.
    """
    from inspect_ai._util.error import PrerequisiteError
    from inspect_ai.model import GenerateConfig, get_model

    config = GenerateConfig(
        temperature=role.temperature, top_p=role.top_p, max_tokens=role.max_tokens, seed=role.seed,
        max_connections=role.max_connections, max_retries=role.max_retries, attempt_timeout=role.timeout_s,
        extra_body=role.extra_body or None,
    )  # fmt: skip
    openai = role.provider in ("openai", "openai-api", "deepseek")
    # The client's own retries would multiply with Inspect's.
    options: dict[str, Any] = {"max_retries": 0} if openai else {}
    try:
        model = get_model(
            role.model, config=config, base_url=role.base_url, api_key=_key(role), memoize=False, **options
        )
    except (PrerequisiteError, ValueError, ImportError) as err:
        said = " ".join(str(getattr(err, "message", err)).replace("[bold]", "").replace("[/bold]", "").split())
        raise UserError(f"role '{role.name}' ({role.model}): {shorten(said, 240)}") from err
    return guarded(model)


def guarded(model: Model) -> Model:
    """`model`, whose client, where it is one over HTTP, now follows no redirect and reads no endless reply."""
    http: Any = getattr(getattr(model.api, "client", None), "_client", None)
    if hasattr(http, "event_hooks"):
        http.follow_redirects = False
        http.event_hooks["response"] = [*http.event_hooks["response"], _bounded]
    return model


def without_key(text: str, model: Model, width: int = 200) -> str:
    """`text` on one line, without the key that a server's complaint may repeat."""
    key = getattr(model.api, "api_key", None)
    return shorten(text.replace(key, "[key]") if key and key != "none" else text, width)


def _key(role: Role) -> str | None:
    if role.api_key_env:
        if not (key := os.environ.get(role.api_key_env, "").strip()):
            raise UserError(f"role '{role.name}': the environment variable {role.api_key_env} is not set; export your "
                            "key in it.")  # fmt: skip
        return key
    # A server on this machine has no key; the client wants one all the same.
    return "none" if is_loopback(role.base_url) and role.provider not in LOCAL else None


async def _bounded(response: Any) -> None:
    """Stop reading a body that has no end."""
    source, read_so_far = response.stream, 0

    class Stream(type(source)):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

        async def __aiter__(self) -> Any:
            nonlocal read_so_far
            async for piece in source:
                read_so_far += len(piece)
                if read_so_far > MAX_BODY:
                    raise ValueError(f"the reply is longer than {MAX_BODY >> 20} MiB")
                yield piece

        async def aclose(self) -> None:
            await source.aclose()

    response.stream = Stream()


def no_proxy(role: Role) -> contextlib.AbstractContextManager[None]:
    """A proxy of the environment cannot reach this machine's own loopback."""
    names = ("NO_PROXY", "no_proxy") if is_loopback(role.base_url) else ()
    here = "127.0.0.1,localhost,::1"
    return environment({name: ",".join(filter(None, (os.environ.get(name), here))) for name in names})


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have environment variables set for as long as a block lasts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
