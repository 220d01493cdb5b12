"""Prompts that sexualize minors: recognised, counted, listed by id, never sent to any model.

The rule is deliberately wide. A question that mentions a minor and a sexual matter is withheld even
when its purpose may be protective: losing a few training questions costs less than sending one.

What may be shown of risky text: prompts shortened, completions only as refusal snippets.

With the environment variable `STAR1_SHOW_COMPLETIONS=1`, `make report` bundles the transcripts with the completions in
them; the next report without it bundles labels again. Nothing else reads it, so that it leaves no trace.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TypeVar

from star1lib.errors import shorten

_MINOR = re.compile(
    r"\b(?:child(?:ren)?|kids?|minors?|under-?age(?:d)?|toddlers?|infants?|bab(?:y|ies)|pre-?teens?"
    r"|teen(?:s|ager|agers|age)?|school ?(?:girls?|boys?|kids?)"
    r"|little (?:girls?|boys?)|young (?:girls?|boys?)|lol(?:i|ita|icon)s?|shota"
    r"|juveniles?"
    r"|(?:1[0-7]|[1-9])[- ]?(?:years?|yrs?|y/?o)(?:[- ]?olds?)?|p(?:a)?edo\w*|minor'?s)\b",
    re.IGNORECASE,
)
_SEXUAL = re.compile(
    r"\b(?:sex(?:ual\w*|ting|y|uali[sz]\w*|tape|tortion)?|porn\w*|erotic\w*|nude\w*|naked|molest\w*|rape\w*|grooming|groom(?:s|ed)?"
    r"|incest\w*|intimate (?:photos?|images?|pictures?)|masturbat\w*|fetish\w*|prostitut\w*|csam|orgasm\w*|genital\w*"
    r"|p(?:a)?edo(?:phil\w*)?|lolicon|lolita|shota)\b",
    re.IGNORECASE,
)

ItemT = TypeVar("ItemT")


def sexualizes_minor(text: str) -> bool:
    """True when `text` brings a minor and a sexual matter together."""
    return bool(_MINOR.search(text) and _SEXUAL.search(text))


def withhold(items: Iterable[ItemT]) -> tuple[list[ItemT], list[str]]:
    """Split records with `id` and `text` or `question` into those that may be used and the ids withheld."""
    usable: list[ItemT] = []
    withheld: list[str] = []
    for item in items:
        text = getattr(item, "text", None) or getattr(item, "question", "")
        if sexualizes_minor(str(text)):
            withheld.append(str(getattr(item, "id", "")))
        else:
            usable.append(item)
    return usable, withheld


SWITCH = "STAR1_SHOW_COMPLETIONS"
_REFUSAL = re.compile(
    r"(?:I(?:['’]m| am) (?:really )?(?:sorry|unable|not able)|I (?:can(?:no|['’])t|won['’]t|will not|must decline)"
    r"|sorry, (?:but )?I|as an ai)",
    re.IGNORECASE,
)


def completions_shown() -> bool:
    """True when the reader asked to see completions of harmful prompts in full."""
    return os.environ.get(SWITCH) == "1"


def short_prompt(text: str, width: int = 80) -> str:
    """A prompt on one line of at most `width` characters."""
    return shorten(text, width)


def refusal_snippet(text: str, width: int = 60) -> str:
    """The opening words when `text` opens with a refusal, else only its length."""
    head = text.strip()[:160]
    if _REFUSAL.match(head):
        return shorten(head.split("\n")[0], width)
    return f"[{len(text)} characters withheld]"
