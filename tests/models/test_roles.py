"""Roles: one switch each, checked fields, keys only from the environment, prices from the table."""

from __future__ import annotations

from typing import Any

import pytest

from star1lib.errors import UserError
from star1lib.models import roles


def load(**fields: Any) -> roles.Role:
    role = roles.load({"teacher": {"model": "openai/m", **fields}})["teacher"]
    assert isinstance(role, roles.Role)
    return role


def test_a_role_that_is_not_named_is_played_offline() -> None:
    players = roles.load({"teacher": "released", "scorer": {"model": "openai/gpt-4o"}})
    assert players["classifier"] == "offline" and players["teacher"] == "released"
    assert list(roles.models(players)) == ["scorer"] and set(players) == set(roles.WORDS)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"techer": "offline"}, "roles.techer: no such role; did you mean 'teacher'?"),
        ({"teacher": "offlin"}, "roles.teacher: 'offlin' is nobody; name offline or released, or a model"),
        ({"classifier": "released"}, "roles.classifier: 'released' is nobody"),
        ({"teacher": 3}, "roles.teacher: offline or released or a table"),
        ({"teacher": {"model": "gpt-4o"}}, "Inspect's name"),
        ({"teacher": {"model": "openia/gpt-4o"}}, "did you mean 'openai'?"),
        ({"teacher": {"model": "openai-api/m"}}, "openai-api/service/model"),
        ({"teacher": {}}, "field 'model'"),
        ({"harm_judge": {"model": "openai/m", "asks": "mood"}}, "field 'asks'"),
    ],
)
@pytest.mark.attack("bad parameters")
def test_a_misspelt_role_or_model_is_one_sentence(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        roles.load(given)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"modle": "x"}, "'modle'"),
        ({"temperature": 3}, "'temperature'"),
        ({"top_p": 0}, "'top_p'"),
        ({"max_tokens": 0}, "'max_tokens'"),
        ({"max_connections": -1}, "'max_connections'"),
        ({"max_cost_usd": 5}, "needs the price"),
        ({"api_key": "sk-verysecret"}, "do not belong"),
        ({"api_key_env": "sk-verysecret"}, "name of an environment variable"),
        ({"base_url": "api.example.org"}, "http"),
        ({"base_url": "https://user:verysecret@example.org/v1"}, "must not carry"),
        ({"base_url": "https://example.org/v1?key=verysecret"}, "must not carry"),
    ],
)
@pytest.mark.attack("bad parameters")
def test_what_does_not_fit_is_named_and_no_secret_repeated(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        load(**fields)
    assert words in str(caught.value) and "teacher" in str(caught.value)
    assert "verysecret" not in str(caught.value)


def test_prices_come_from_the_table() -> None:
    table = {"openai/m": {"input": 2, "output": 4}}
    role = roles.models(roles.load({"teacher": {"model": "openai/m", "max_cost_usd": 1}}, table))["teacher"]
    assert role.price is not None and role.price.cost(1_000_000, 500_000) == 4.0
    for row in ({"input": 2}, {"input": -2, "output": 1}):
        with pytest.raises(UserError, match="'m' needs"):
            roles.load({}, {"m": row})


def test_inspects_providers_are_known() -> None:
    from inspect_ai._util.registry import registry_find, registry_info
    from inspect_ai.model._providers import providers  # noqa: F401 - enters them

    found = registry_find(lambda info: info.type == "modelapi")
    known = {registry_info(provider).name.split("/")[-1] for provider in found}
    assert len(known) > 20 and known - {"star1"} == roles.PROVIDERS - {"star1"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://localhost:1", True), ("http://127.0.0.2", True), ("http://[::1]:8/v1", True), ("http://10.0.0.1", False)],
)
def test_loopback(url: str, expected: bool) -> None:
    assert roles.is_loopback(url) is expected


@pytest.mark.attack("hostile server: batch path")
@pytest.mark.parametrize("name", ["teacher", "scorer", "harm_judge"])
@pytest.mark.parametrize("given", [True, False, "yes", None])
def test_no_batch_is_ever_made(name: str, given: Any) -> None:
    """Inspect's batches pay twice for a lost creation, and wait for ever for an expired one or a missing line."""
    with pytest.raises(UserError, match=f"roles.{name}: 'batch' is not offered, because a lost reply") as caught:
        roles.load({name: {"model": "openai/m", "batch": given}})
    assert "leave it out" in str(caught.value)
