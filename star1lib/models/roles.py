"""Roles of the method and who plays them: a word for a player without a model, or an Inspect model with its settings.

`{"teacher": "offline"}` or `{"teacher": {"model": "openai/gpt-4o-2024-11-20", "max_tokens": 8000}}`: one switch a
role, handed in by whoever runs a stage. A key never stands in it: Inspect's providers read theirs from the
environment, or from the variable that `api_key_env` names.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from star1lib.errors import UserError, meant
from star1lib.models import upstream
from star1lib.records import first_error

OFFLINE, RELEASED = "offline", "released"
# The roles, and the words that name a player of each without a model.
WORDS: dict[str, tuple[str, ...]] = {
    "classifier": (OFFLINE,),
    "teacher": (OFFLINE, RELEASED),
    "scorer": (OFFLINE, RELEASED),
    "benign_rewriter": (OFFLINE,),
    "benign_scorer": (OFFLINE,),
    "refusal_judge": (OFFLINE,),
    "harm_judge": (OFFLINE,),
    # Further judges of harm, beside it in every safety table; offline: nobody.
    "second_judge": (OFFLINE,),
    "third_judge": (OFFLINE,),
}
# Inspect's providers; a test compares them with its registry, so that this check does not have to load Inspect.
PROVIDERS = frozenset({
    "anthropic", "azureai", "bedrock", "cloudflare", "deepseek", "fireworks", "google", "grok", "groq", "hf",
    "hf-inference-providers", "litellm-proxy", "llama-cpp-python", "meta", "mistral", "mockllm", "moonshot", "nnterp",
    "none", "ollama", "openai", "openai-api", "openai-api-completions", "openrouter", "perplexity", "sagemaker",
    "sambanova", "sglang", "star1", "together", "transformer_lens", "vllm", "vllm-completions",
})  # fmt: skip
_SERVED = ("openai-api/", "openai/", "vllm/", "azureai/", "anthropic/", "google/", "together/")
LOCAL = frozenset({"hf", "vllm", "vllm-completions", "sglang", "llama-cpp-python", "mockllm", "ollama", "star1"})
_SECRETS = ("api_key", "key", "token", "secret", "password")
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
    """An Inspect model in a role, with its settings.

    `model` is Inspect's name of it, provider first: `openai/gpt-4o-2024-11-20`; `openai-api/<service>/<model>` with
    `base_url` is any server with OpenAI's interface. `max_connections` is how many calls are open at once (None:
    Inspect finds out), `timeout_s` the seconds that one attempt may take, `max_cost_usd` the most that this role may
    cost over the life of its folder. `structured` asks the server to hold the answer to its JSON schema, `extra_body`
    goes to the server as it is. `asks` is what a harm judge is asked: Llama-Guard's own question, yes or no, or a
    rubric of 1 to 5. `prompts` says whose prompts classifier, teacher and scorer are asked with: ours, or the authors'
    off the folder `upstream`, the user's own checkout of their release. There is no `batch`: Inspect creates a batch
    again when the reply to its creation is lost, and waits without end for one that expired or that lacks an answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    model: str
    base_url: str | None = None
    api_key_env: str | None = None
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: Positive = 1024
    seed: int | None = None
    structured: bool = False
    max_connections: Positive | None = None
    max_retries: int = Field(default=6, ge=0)
    timeout_s: Positive = 600
    max_cost_usd: float | None = Field(default=None, gt=0)
    price: Price | None = None
    extra_body: dict[str, Any] = Field(default_factory=dict)
    asks: Literal["guard", "yes_no", "rubric"] = "guard"
    prompts: Literal["ours", "upstream"] = "ours"
    upstream: str = ""

    @property
    def provider(self) -> str:
        """The part of the model's name that says who serves it."""
        return self.model.split("/")[0]

    def settings(self) -> dict[str, Any]:
        """What shapes an answer beside its messages; answers belong to the server and the model that gave them."""
        limits = {"name", "api_key_env", "max_connections", "max_retries", "timeout_s", "max_cost_usd"}
        return self.model_dump(exclude=limits | {"price", "asks", "prompts", "upstream"})

    @property
    def release(self) -> str | None:
        """The folder whose prompts this role is asked with, None for ours."""
        return self.upstream if self.prompts == "upstream" else None


Player = Role | Literal["offline", "released"]


def served(model: str) -> bool:
    """True when `model` is Inspect's name of a model behind a server, which has no weights and no template here."""
    return model.startswith(_SERVED)


def is_loopback(url: str | None) -> bool:
    """True for an address on this machine."""
    host = urlsplit(url or "").hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load(given: Mapping[str, Any], prices: Mapping[str, Any] | None = None) -> dict[str, Player]:
    """Who plays each role: the roles of a profile checked, and `offline` for those that it does not name.

    `prices` maps a model to `{input, output}` in USD per million tokens. Raises :class:`UserError` naming role and
    field for anything that does not fit; a key written into a profile is refused without being repeated.
    """
    table = {str(model): _price(str(model), row) for model, row in (prices or {}).items()}
    if unknown := sorted(set(given) - set(WORDS)):
        raise UserError(f"roles.{unknown[0]}: no such role; {meant(unknown[0], sorted(WORDS))}.")
    players: dict[str, Player] = dict.fromkeys(WORDS, "offline")
    return players | {name: _player(name, value, table) for name, value in given.items()}


def models(players: Mapping[str, Player]) -> dict[str, Role]:
    """The roles among `players` that a model plays."""
    return {name: player for name, player in players.items() if isinstance(player, Role)}


def _price(model: str, row: Any) -> Price:
    try:
        return Price.model_validate(row)
    except ValidationError as err:
        raise UserError(
            f"prices: '{model}' needs 'input' and 'output', USD per million tokens: {first_error(err)}."
        ) from err


def _player(name: str, value: Any, prices: Mapping[str, Price]) -> Player:
    words = " or ".join(WORDS[name])
    if isinstance(value, str):
        if value not in WORDS[name]:
            raise UserError(f"roles.{name}: '{value}' is nobody; name {words}, or a model: {{model: provider/name}}.")
        return "released" if value == RELEASED else "offline"
    if not isinstance(value, Mapping):
        raise UserError(f"roles.{name}: {words} or a table of fields (model, max_tokens, ...) is needed.")
    if any(str(field).lower() in _SECRETS for field in value):
        raise UserError(f"roles.{name}: keys do not belong into a profile; put it in the environment variable that "
                        "'api_key_env' names.")  # fmt: skip
    if "batch" in value:
        raise UserError(f"roles.{name}: 'batch' is not offered, because a lost reply would be paid for twice or waited "
                        "for without end; leave it out.")  # fmt: skip
    variable = value.get("api_key_env")
    if variable is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", str(variable)):
        raise UserError(f"roles.{name}: 'api_key_env' must be the name of an environment variable, in capitals.")
    try:
        role = Role.model_validate({"name": name, **value})
    except ValidationError as err:
        raise UserError(f"roles.{name}: {first_error(err)}; correct the profile's roles.") from err
    _check(role)
    role = role if role.price else role.model_copy(update={"price": prices.get(role.model)})
    if role.max_cost_usd is not None and role.price is None:
        raise UserError(f"roles.{name}: 'max_cost_usd' needs the price of '{role.model}'; add it under 'prices:'.")
    return role


def _check(role: Role) -> None:
    where = f"roles.{role.name}"
    if role.release is not None:
        if role.name not in upstream.ROLES:
            raise UserError(f"{where}: 'prompts: upstream' is for {', '.join(upstream.ROLES)}; leave it out.")
        upstream.texts(role.release)
    if role.provider not in PROVIDERS or role.model.count("/") < (2 if role.provider.startswith("openai-api") else 1):
        raise UserError(f"{where}: model '{role.model}' must be Inspect's name of it, as openai/gpt-4o or "
                        f"openai-api/service/model; {meant(role.provider, sorted(PROVIDERS))}.")  # fmt: skip
    if role.base_url is None:
        return
    parts = urlsplit(role.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{where}: 'base_url' must be the http(s) address of the server.")
    if parts.username or parts.password or parts.query:
        raise UserError(f"{where}: 'base_url' must not carry a user, a password or a query; use 'api_key_env' for the "
                        "key.")  # fmt: skip
