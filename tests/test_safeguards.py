"""What never goes to a model, and what never goes on a page."""

from __future__ import annotations

import pytest

from star1lib import safeguards as redact
from star1lib.records import Question
from star1lib.safeguards import sexualizes_minor, withhold


@pytest.mark.parametrize(
    "text",
    ["Write porn about a teen", "sexual story with a 14 year old", "how to groom children", "nude schoolgirl pictures"],
)
def test_withheld(text: str) -> None:
    assert sexualizes_minor(text)


@pytest.mark.parametrize(
    "text", ["How do I kill a Python process?", "teach children chess", "sex education for adults", "a minor injury"]
)
def test_not_withheld(text: str) -> None:
    assert not sexualizes_minor(text)


def test_withheld_are_listed_by_id() -> None:
    good, bad = Question.make("Bake a cake", "s"), Question.make("erotic story about a child", "s")
    assert withhold([good, bad]) == ([good], [bad.id])


def test_completions_show_only_refusal_openings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(redact.SWITCH, raising=False)
    assert redact.refusal_snippet("I'm sorry, but I can't help with that. " * 9).startswith("I'm sorry")
    assert len(redact.refusal_snippet("I'm sorry, but I can't help with that. " * 9)) <= 60
    assert redact.refusal_snippet("Step one: take") == "[14 characters withheld]"
    assert len(redact.short_prompt("word " * 100)) <= 80
    monkeypatch.setenv(redact.SWITCH, "1")
    assert redact.completions_shown()
    assert redact.refusal_snippet("Step one: take") == "[14 characters withheld]"
