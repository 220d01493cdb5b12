"""Between requests and the journal: what is still to be asked, what is never sent, what a record says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from star1lib import policies
from star1lib.errors import UserError
from star1lib.models.api import backends
from star1lib.models.api.backends import Answer, CallOutcome, Reply, Request
from star1lib.models.api.journal import Journal, key_prefix, request_key
from star1lib.models.roles import Role
from star1lib.safeguards import sexualizes_minor

_BYTES_PER_TOKEN = 3.0  # below the usual 4, so that what is reserved is seldom too little


@dataclasses.dataclass
class Plan:
    """What a run has to do: the key of each request, and one request per key that has no answer yet."""

    keys: list[str]
    withheld: set[int]
    missing: dict[str, Request]


def _policy_phrases() -> list[str]:
    phrases = [rule.text for rule in policies.RULES.values()] + list(policies.CATEGORIES)
    phrases += [text for policy in policies.POLICIES for text in (policy.definition, policy.objective)]
    return sorted(phrases, key=len, reverse=True)


_POLICY_PHRASES = _policy_phrases()


def screened_text(request: Request) -> str:
    """What the check for minors reads first: `screen`, else everything that the user messages say."""
    if request.screen is not None:
        return request.screen
    return "\n".join(message["content"] for message in request.messages if message["role"] == "user")


def is_withheld(request: Request) -> bool:
    """True when the request must not be sent; the policies' own sentences in a prompt do not count."""
    text = screened_text(request)
    if not sexualizes_minor(text):
        return False
    for phrase in _POLICY_PHRASES:
        text = text.replace(phrase, " ")
    return sexualizes_minor(text)


def plan(role: Role, requests: Sequence[Request], book: Journal) -> Plan:
    """Split `requests` into withheld, answered in `book`, and missing; equal content is asked once.

    Raises :class:`UserError` when two requests share an id.
    """
    seen: set[str] = set()
    for request in requests:
        if request.id in seen:
            raise UserError(f"role '{role.name}': two requests have the id '{request.id}'; give each its own.")
        seen.add(request.id)
    prefix = key_prefix(role.name, role.model, backends.identity(role), role.settings())
    result = Plan([], set(), {})
    for index, request in enumerate(requests):
        schema = request.schema if role.structured else None
        key = request_key(prefix, request.messages, schema, request.sample)
        result.keys.append(key)
        if is_withheld(request):
            result.withheld.add(index)
        elif key not in book:
            result.missing.setdefault(key, request)
    return result


def estimated_tokens(messages: Sequence[dict[str, str]]) -> int:
    """A cautious count of the tokens of a prompt, for reservations."""
    return sum(8 + int(len(message["content"].encode("utf-8", "replace")) / _BYTES_PER_TOKEN) for message in messages)


def record_of(role: Role, key: str, request: Request, answer: Answer, extra_usd: float = 0.0) -> dict[str, Any]:
    """The journal's record of an answer; tokens that the server did not count are estimated."""
    used_in = answer.input_tokens if answer.input_tokens is not None else estimated_tokens(request.messages)
    used_out = answer.output_tokens
    if used_out is None:
        used_out = int(len((answer.text + answer.thinking).encode("utf-8", "replace")) / _BYTES_PER_TOKEN)
    cost = (role.price.cost(used_in, used_out) if role.price else 0.0) + extra_usd
    return {
        "key": key,
        "id": request.id,
        "role": role.name,
        "model": role.model,
        "outcome": answer.outcome,
        "text": answer.text,
        "thinking": answer.thinking,
        "finish_reason": answer.finish_reason,
        "input_tokens": used_in,
        "output_tokens": used_out,
        "cost_usd": cost,
        "error": answer.error,
    }


def reply_of(request_id: str, record: dict[str, Any]) -> Reply:
    """The reply that a journal record stands for, under the caller's id."""
    return Reply(request_id, *(record[field.name] for field in dataclasses.fields(Reply)[1:]))


def unsent(request_id: str, outcome: CallOutcome, reason: str) -> Reply:
    """The reply to a request that was not sent."""
    return Reply(request_id, "", "", "", 0, 0, 0.0, outcome, reason)


def collect(requests: Sequence[Request], todo: Plan, book: Journal, failed: dict[str, Reply]) -> list[Reply]:
    """The reply to each request, from the journal or from what became of those without an answer."""
    replies: list[Reply] = []
    for index, (request, key) in enumerate(zip(requests, todo.keys, strict=True)):
        if index in todo.withheld:
            replies.append(unsent(request.id, "withheld", "never sent: it brings a minor and a sexual matter together"))
        elif (record := book.get(key)) is not None:
            replies.append(reply_of(request.id, record))
        else:
            replies.append(dataclasses.replace(failed[key], id=request.id))
    return replies
