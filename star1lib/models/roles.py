"""Roles of the method and who plays them: one checked record per role, read from the profile.

A secret never enters a profile: a role names the environment variable that holds its key.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from star1lib.errors import UserError
from star1lib.records import first_error

BackendName = Literal["openai", "azure", "deepseek", "nvidia", "vllm", "transformers", "standin"]
ROLE_NAMES = (
    "classifier",
    "teacher",
    "scorer",
    "benign_rewriter",
    "benign_scorer",
    "refusal_judge",
    "harm_judge",
)
# Address and key variable of the hosted services; `openai` with a base_url is any compatible server.
_SERVICES: dict[str, tuple[str | None, str]] = {
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "azure": (None, "AZURE_OPENAI_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "nvidia": ("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY"),
}
BATCH_DISCOUNT = 0.5  # what a hosted Batch API charges of the usual price
Positive = Annotated[int, Field(gt=0)]


class Price(BaseModel):
    """USD per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0)
    output: float = Field(ge=0)

    def cost(self, input_tokens: float, output_tokens: float) -> float:
        """USD for that many tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


class Role(BaseModel):
    """Who plays a role and how: backend, model, sampling, limits.

    `rpm` and `tpm` are requests and tokens per minute, `max_cost_usd` the most that this role may cost
    over the life of its journal, `timeout_s` the seconds one attempt may take. `token_field` is the
    request field that caps the output (newer OpenAI models want `max_completion_tokens`). `extra` is
    passed to the server as it is. `batch` sends the requests through the OpenAI Batch API.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    backend: BackendName
    model: str = Field(min_length=1)
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    top_p: float | None = Field(default=1.0, gt=0, le=1)
    max_tokens: Positive = 1024
    seed: int | None = None
    structured: bool = False
    concurrency: Positive = 16
    rpm: Positive | None = None
    tpm: Positive | None = None
    max_cost_usd: float | None = Field(default=None, gt=0)
    retries: int = Field(default=6, ge=0)
    backoff_s: float = Field(default=1.0, ge=0)
    timeout_s: float = Field(default=600.0, gt=0)
    base_url: str | None = None
    api_key_env: str | None = None
    api_version: str | None = None
    token_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    extra: dict[str, Any] = Field(default_factory=dict)
    batch: bool = False
    batch_size: Positive = 8
    price: Price | None = None

    @property
    def remote(self) -> bool:
        """True when requests go over HTTP."""
        return self.backend in _SERVICES

    @property
    def address(self) -> str | None:
        """The server's base URL, or None for a role that is played in this process."""
        return self.base_url or _SERVICES.get(self.backend, (None, ""))[0]

    @property
    def key_variable(self) -> str:
        """The environment variable that holds this role's key; empty when none is needed."""
        if not self.remote:
            return ""
        if self.api_key_env:
            return self.api_key_env
        return "" if is_loopback(self.address) else _SERVICES[self.backend][1]

    def settings(self) -> dict[str, Any]:
        """What shapes an answer beside model and messages; part of the journal's key."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "structured": self.structured,
            "extra": self.extra,
        }


def is_loopback(url: str | None) -> bool:
    """True for an address on this machine."""
    host = urlsplit(url or "").hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def api_key(role: Role) -> str:
    """The key of `role` from the environment; a loopback server without one gets a placeholder.

    Raises :class:`UserError` naming the variable when it is not set.
    """
    if not (variable := role.key_variable):
        return "none"
    if not (key := os.environ.get(variable, "").strip()):
        raise UserError(f"role '{role.name}': the environment variable {variable} is not set; export your key in it.")
    return key


def load(profile_roles: Mapping[str, Any], prices: Mapping[str, Any] | None = None) -> dict[str, Role]:
    """Check the `roles:` of a profile and give each role the price of its model from `prices:`.

    `prices` maps a model to `{input, output}` in USD per million tokens. Raises :class:`UserError`
    naming role and field for anything that does not fit; a key written into the profile is refused
    without being repeated.
    """
    table = {str(model): _price(str(model), row) for model, row in (prices or {}).items()}
    return {str(name): _role(str(name), fields, table) for name, fields in profile_roles.items()}


def _price(model: str, row: Any) -> Price:
    try:
        return Price.model_validate(row)
    except ValidationError as err:
        raise UserError(
            f"prices: '{model}' needs 'input' and 'output', USD per million tokens: {first_error(err)}."
        ) from err


def _role(name: str, fields: Any, prices: Mapping[str, Price]) -> Role:
    if not isinstance(fields, Mapping):
        raise UserError(f"role '{name}': a table of fields is needed (backend, model, ...).")
    if any(str(field).lower() in ("api_key", "key", "token", "secret", "password") for field in fields):
        raise UserError(f"role '{name}': keys do not belong into a profile; put it in the environment variable that "
                        "'api_key_env' names.")  # fmt: skip
    variable = fields.get("api_key_env")
    if variable is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", str(variable)):
        raise UserError(f"role '{name}': 'api_key_env' must be the name of an environment variable, in capitals.")
    try:
        role = Role.model_validate({"name": name, **fields})
    except ValidationError as err:
        raise UserError(f"role '{name}': {first_error(err)}; correct the profile's roles.") from err
    _check_address(role)
    role = role if role.price else role.model_copy(update={"price": prices.get(role.model)})
    if role.max_cost_usd is not None and role.price is None:
        raise UserError(f"role '{name}': 'max_cost_usd' needs the price of '{role.model}'; add it under 'prices:'.")
    return role


def _check_address(role: Role) -> None:
    if not role.remote:
        if role.base_url:
            raise UserError(f"role '{role.name}': backend '{role.backend}' takes no 'base_url'; remove it or use "
                            "backend 'openai' for a server.")  # fmt: skip
        return
    parts = urlsplit(role.address or "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"role '{role.name}': 'base_url' must be the http(s) address of the server.")
    if parts.username or parts.password or parts.query:
        raise UserError(f"role '{role.name}': 'base_url' must not carry a user, a password or a query; use "
                        "'api_key_env' for the key.")  # fmt: skip
    if role.batch and role.backend not in ("openai", "azure"):
        raise UserError(f"role '{role.name}': 'batch' is offered by OpenAI and Azure only; set it to false.")
