"""Roles: checked fields, keys only from the environment, prices from the table."""

from __future__ import annotations

from typing import Any

import pytest

from star1lib.errors import UserError
from star1lib.models import roles


def load(**fields: Any) -> roles.Role:
    return roles.load({"teacher": {"backend": "openai", "model": "m", **fields}})["teacher"]


def test_services_know_their_address_and_key() -> None:
    known = roles.load(
        {
            "a": {"backend": "openai", "model": "m"},
            "b": {"backend": "deepseek", "model": "m"},
            "c": {"backend": "nvidia", "model": "m"},
            "d": {"backend": "azure", "model": "m", "base_url": "https://me.openai.azure.com", "api_version": "v"},
            "e": {"backend": "openai", "model": "m", "base_url": "http://127.0.0.1:8000/v1"},
            "f": {"backend": "openai", "model": "m", "base_url": "https://gpu.example.org/v1", "api_key_env": "GPU"},
            "g": {"backend": "standin", "model": "rules"},
        }
    )
    keys = [role.key_variable for role in known.values()]
    assert keys == ["OPENAI_API_KEY", "DEEPSEEK_API_KEY", "NVIDIA_API_KEY", "AZURE_OPENAI_API_KEY", "", "GPU", ""]
    assert known["b"].address == "https://api.deepseek.com/v1"
    assert roles.api_key(known["e"]) == "none"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"backend": "openia"}, "'teacher': field 'backend'"),
        ({"modle": "x"}, "'modle'"),
        ({"temperature": 3}, "'temperature'"),
        ({"top_p": 0}, "'top_p'"),
        ({"max_tokens": 0}, "'max_tokens'"),
        ({"concurrency": -1}, "'concurrency'"),
        ({"rpm": 0}, "'rpm'"),
        ({"max_cost_usd": 5}, "needs the price"),
        ({"api_key": "sk-verysecret"}, "do not belong"),
        ({"api_key_env": "sk-verysecret"}, "name of an environment variable"),
        ({"base_url": "api.example.org"}, "http"),
        ({"base_url": "https://user:verysecret@example.org/v1"}, "must not carry"),
        ({"base_url": "https://example.org/v1?key=verysecret"}, "must not carry"),
        ({"backend": "azure"}, "base_url"),
        ({"backend": "transformers", "base_url": "http://localhost:1/v1"}, "takes no 'base_url'"),
        ({"backend": "deepseek", "batch": True}, "'batch'"),
    ],
)
def test_what_does_not_fit_is_named_and_no_secret_repeated(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        load(**fields)
    assert words in str(caught.value) and "teacher" in str(caught.value)
    assert "verysecret" not in str(caught.value)


def test_a_role_must_be_a_table() -> None:
    with pytest.raises(UserError, match="table of fields"):
        roles.load({"teacher": "gpt"})


def test_prices_come_from_the_table() -> None:
    role = roles.load(
        {"teacher": {"backend": "openai", "model": "m", "max_cost_usd": 1}}, {"m": {"input": 2, "output": 4}}
    )["teacher"]
    assert role.price is not None and role.price.cost(1_000_000, 500_000) == 4.0
    with pytest.raises(UserError, match="'m' needs"):
        roles.load({}, {"m": {"input": 2}})
    with pytest.raises(UserError, match="'m' needs"):
        roles.load({}, {"m": {"input": -2, "output": 1}})


def test_missing_key_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        roles.api_key(load())


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://localhost:1", True), ("http://127.0.0.2", True), ("http://[::1]:8/v1", True), ("http://10.0.0.1", False)],
)
def test_loopback(url: str, expected: bool) -> None:
    assert roles.is_loopback(url) is expected
