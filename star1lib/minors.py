"""Prompts that sexualize minors: recognised, counted, listed by id, never sent to any model.

The rule is deliberately wide. A question that mentions a minor and a sexual matter is withheld even
when its purpose may be protective: losing a few training questions costs less than sending one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

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
