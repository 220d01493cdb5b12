"""What may be shown of risky text: prompts shortened, completions only as refusal snippets.

Set the environment variable `STAR1_SHOW_COMPLETIONS=1` to see completions in full.
"""

from __future__ import annotations

import os
import re

from .errors import shorten

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
    """The opening words when `text` opens with a refusal, else only its length; everything if the switch is set."""
    if completions_shown():
        return text
    head = text.strip()[:160]
    if _REFUSAL.match(head):
        return shorten(head.split("\n")[0], width)
    return f"[{len(text)} characters withheld]"
