"""Reading final answers out of free text; each reader says what it does with the odd cases.

All of them get the text after the thinking. A number is read whole: 3.5 is never 5, 1,234 is one number.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(
    r"(?<![\w.,])[-−]?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w/]|\.\d)|(?<![\w./])[-−]?\d+(?:\.\d+)?(?![\w/]|\.\d)"
)
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_SAID = re.compile(r"(?:final\s+)?answer\s*(?:is|:|=)\s*", re.IGNORECASE)
# A bare letter must be a capital that ends its clause: "the answer is a matter of taste" and "the answer is I think B"
# name no option. In brackets either case will do.
_LETTER_SAID = re.compile(
    r"\b(?i:answer|option|choice)[*_]*(?:\s+(?i:is|would\s+be))?\s*:?\s*[*_`$\s]*(?:\\(?:text|mathrm|textbf)\{)?"
    r"(?:\(([A-Ja-j])\)|([B-HJ])(?![\w'’])|([AI])(?=[*_`$)}\s]*(?:[.,;:)\n]|$)))"
)
_LETTER_ALONE = re.compile(r"^[\s*_`$(\\]*([A-J])[\s*_`$).:]*$")
_LETTER_OPENS = re.compile(r"^[\s*_`(]*([A-J])[).:]\s")


def boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}`, braces balanced; None without one or with one that never closes."""
    found = None
    for match in _BOXED.finditer(text):
        depth, start = 1, match.end()
        for position in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                found = text[start:position].strip()
                break
    return found


def numbers(text: str) -> list[str]:
    """All numbers of a text in order, thousands separators removed.

    Digits inside words (5th, x2, 1e5) and the two sides of a fraction (1/2) are not numbers.
    """
    whole = _FRACTION.sub(" fraction ", text)
    return [match.group().replace(",", "").replace("−", "-") for match in _NUMBER.finditer(whole)]


def integer(text: str) -> int | None:
    """A final integer: the boxed one, else the first number after the last "answer is", else the last number.

    A box that holds no integer, and a number with a fraction (3.5 or 1/2, but not 5.0), read as None.
    """
    inside = boxed(text)
    if inside is not None:
        found = numbers(inside.replace("\\,", "").replace("\\!", ""))
        return _whole(found[0]) if len(found) == 1 else None
    said = list(_SAID.finditer(text))
    if said:
        rest = text[said[-1].end() :].split("\n")[0]
        after = numbers(rest)
        if after:
            return _whole(after[0])
        if any(sign.isdigit() for sign in rest):
            return None
    found = numbers(text)
    return _whole(found[-1]) if found else None


def _whole(number: str) -> int | None:
    value = float(number)
    return int(value) if value.is_integer() else None


def aime(text: str) -> int | None:
    """An AIME answer, an integer of 0 to 999 (leading zeros allowed); anything else reads as None."""
    value = integer(text)
    return value if value is not None and 0 <= value <= 999 else None


def letter(text: str, options: int) -> str | None:
    """The letter of a multiple-choice answer, of the first `options` letters.

    In this order: a boxed letter; the last "answer is (C)"; a last line that is only a letter; a first
    line that opens with "C)". The article "A" in running text is not an answer.
    """
    allowed = "ABCDEFGHIJ"[:options]
    inside = boxed(text)
    if inside is not None:
        plain = re.sub(r"\\text\w*\s*|[{}()\s.*]", "", inside)
        return plain.upper() if len(plain) == 1 and plain.upper() in allowed else None
    said = [str(match.group(match.lastindex or 0)).upper() for match in _LETTER_SAID.finditer(text)]
    lines = [line for line in text.strip().splitlines() if line.strip()]
    alone = _LETTER_ALONE.match(lines[-1]) if lines else None
    opens = _LETTER_OPENS.match(lines[0]) if lines else None
    for candidate in (said[-1] if said else None, alone and alone.group(1), opens and opens.group(1)):
        if candidate and candidate in allowed:
            return str(candidate)
    return None


def math_text(text: str) -> str | None:
    r"""The final expression of a MATH solution: the last box, else what follows the last "answer is", else None."""
    inside = boxed(text)
    if inside is not None:
        return inside
    said = list(_SAID.finditer(text))
    if not said:
        return None
    rest = text[said[-1].end() :].split("\n")[0].strip().strip("*").rstrip(".").strip()
    return rest or None
