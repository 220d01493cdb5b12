r"""Reading final answers out of free text; each reader says what it does with the odd cases.

All of them get the text after the thinking, look for what the answer *says* its result is (a box, "the answer is"),
and take the last such claim. A number is read whole: 3.5 is never 5, 1,234 is one number. Each takes time in
proportion to the length of the text. `benchmarks/answer_reading.py` measures them beside math-verify's extraction and
Inspect's scorers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_LONGEST_CLAIM = 2_000
_ABOUT = r"(?:\s(?:to|for|of)\s(?:[^.\n=:]|\.\d){1,80}?)?"
_IS = (
    r"(?:is|was|are|be|remains|becomes|equals|comes\s+(?:out\s+)?to"
    r"|(?:will|would|should|must|may|might|could|(?:has|seems|appears)\s+to|can\s+only)\s+be)\b"
    r"(?!\s+not\b(?!\s+\(?[A-J]\)?,?\s+but\b))"
)
_LINE_ENDS = re.compile(r" ?\n[ \n]*")

# ---------------------------------------------------------------- boxes and "the answer is"
# An escaped brace is no brace. Without braces, \boxed takes the number, the letter or the fraction that follows.
_BOX_PART = re.compile(
    r"(?P<box>\\+(?:boxed|fbox)\s*"
    r"(?:(?P<open>\{)|(?P<bare>-?\d(?:[\d,.]*\d)?|[A-Za-z]\b|\\[dt]?frac(?:\{[^{}]*\}|\d){2})))"
    r"|\\.|(?P<brace>[{}])",
    re.DOTALL,
)
_SAID = re.compile(
    rf"\banswer\b[*_\"”]*{_ABOUT}(?:\s+{_IS}|\s*[:=>])[\s*_]*:?[\s*_]*"
    r"|^[ *_#]*(?:final |my )*answer[*_]*[ \t]*\n[\s*_]*"  # a heading
    r"|^####(?=\s*-?[$\d])",
    re.IGNORECASE | re.MULTILINE,
)
_BETWEEN = re.compile(r"[\s$\\()\[\],;]*(?:\b(?:and|or)\b)?[\s$\\()\[\]]*(?:[A-Za-z](?:_\w)?\s*=\s*)?[\s$\\()\[\]]*")
_JOINS = re.compile(r"and|or|,")


def _tidy(text: str) -> str:
    return _LINE_ENDS.sub("\n", re.sub(r"[^\S\n]+", " ", text))


def _boxes(text: str) -> list[tuple[int, int, str]]:
    r"""Every closed `\boxed{...}` that holds no other: where it starts and ends, and what it holds."""
    found: list[tuple[int, int, str]] = []
    stack: list[re.Match[str] | None] = []
    for part in _BOX_PART.finditer(text):
        if part["bare"] is not None:
            found.append((part.start(), part.end(), part["bare"]))
        elif part["open"] or part["brace"] == "{":
            stack.append(part if part["box"] else None)
        elif part["brace"] and stack:
            start = stack.pop()
            if start is not None and not (found and found[-1][0] > start.start()):
                found.append((start.start(), part.end(), text[start.end() : part.start()].strip()))
    return found


def boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}`, braces balanced; None without one or with one that never closes."""
    found = _boxes(text)
    return found[-1][2] if found else None


def _claims(text: str) -> Iterator[str]:
    """What follows each "answer is", the last one first."""
    for match in reversed(list(_SAID.finditer(text))):
        yield text[match.end() : match.end() + _LONGEST_CLAIM]


# ---------------------------------------------------------------- integers
_NUMBER = re.compile(
    r"(?<![\w.,])-?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w/]|\.\d)|(?<![\w./])-?\d+(?:\.\d+)?(?![\w/]|\.\d)"
)
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,?\\[,!;: ]\s?|[\u00a0\u2009\u202f~])(?=\d{3}(?!\d))")
_MINUS = str.maketrans(dict.fromkeys("−–‑﹣－", "-"))
_UNRESOLVED = re.compile(r"\d[\s$)}]*(?:[-+*/×÷^]|\\times|\\cdot|\\div|\bx\b)[\s$({]*\d")
_CLAUSE_ENDS = re.compile(r"(?<!\\)[.;!?](?:\s|$)|,\s|\b(?:because|since|as|so|which)\b")
_LIST_MARK = re.compile(r"^[ *_#]*(?:step )?\d+[.):][*_]* (?=\S)", re.MULTILINE | re.IGNORECASE)
_CUT_OFF = re.compile(r"[-+*/×÷\d\s.,()]{0,200}=\s?\Z")


def numbers(text: str) -> list[str]:
    """All numbers of a text in order, thousands separators removed.

    Digits inside words (5th, x2, 1e5) and the two sides of a fraction (1/2) are not numbers.
    """
    whole = _FRACTION.sub(" fraction ", _THOUSANDS.sub(",", text).translate(_MINUS))
    return [match.group().replace(",", "") for match in _NUMBER.finditer(whole)]


def integer(text: str) -> int | None:
    """A final integer: of the last box, else of the last "answer is" that names a number, else the last number.

    Of an equation it is the side that holds nothing but a number: "5 + 7 = 12" reads as 12. A box with several
    numbers or an unfinished sum, and a number with a fraction (3.5 or 1/2, but not 5.0), read as None. A box
    without a digit is none; neither are the marks of a list, nor an equation that the text breaks off.
    """
    text = _THOUSANDS.sub(",", _tidy(text))
    inside = boxed(text)
    if inside is not None and re.search(r"\d", inside):
        return _stated(inside, alone=True)
    for claim in _claims(text):
        line = claim.split("\n")[0]
        stated = [part for part in _CLAUSE_ENDS.split(line) if re.search(r"\d", part)]
        if stated:
            return _stated(stated[0])
    found = numbers(_CUT_OFF.sub("", _LIST_MARK.sub("", text)))
    return _whole(found[-1]) if found else None


def _stated(clause: str, alone: bool = False) -> int | None:
    for side in reversed(clause.split("=")):
        found = numbers(side)
        if found and not _UNRESOLVED.search(side):
            return _whole(found[0]) if len(found) == 1 or not alone else None
    return None


def _whole(number: str) -> int | None:
    digits, _, rest = number.partition(".")
    return int(digits) if not rest.strip("0") and len(digits) < 4_000 else None


def aime(text: str) -> int | None:
    """An AIME answer, an integer of 0 to 999 (leading zeros allowed); anything else reads as None."""
    value = integer(text)
    return value if value is not None and 0 <= value <= 999 else None


# ---------------------------------------------------------------- letters of options
_FONT = re.compile(r"\\(?:text|math)[a-z]*\s*\{([^{}]*)\}")
_BOX = re.compile(r"\\+(?:boxed|fbox)\s*(?:\{([^{}]*)\}|(\w))")
_PLAIN = str.maketrans({**dict.fromkeys('*_`$\\{}"“”‘«»#', ""), "[": "(", "]": ")", "<": " ", ">": ":", "’": "'"})
# In brackets either case will do; a bare small letter must end its clause.
_LETTER = re.compile(r"'?\({1,3} ?([A-Ja-j]) ?\)|'?(?P<bare>[A-J])'?(?![\w+]|'\w|-\w)|([a-j])(?= ?(?:[.,;:)\n]|\Z))")
_THEN = (
    r"(?:,? (?:therefore|thus|hence|then|so|clearly|indeed|definitely|certainly|(?:most )?(?:likely|probably)|actually"
    r"|obviously|simply|now|still|really|either|both|in fact),?)*"
)
_NAMED = r"(?:the )?(?:(?:correct |right |best )?(?:option|choice|letter|answer) )?"
_MUST = r"(?:is|(?:must|should|would|has to) be)"
_CLAIM = re.compile(
    rf"\b(?:answer|(?:correct|right|best|final|chosen|my) (?:option|choice|letter))\b"
    rf"(?:{_ABOUT}(?:{_THEN} {_IS}{_THEN} ?:?\n? ?|(?P<colon> ?[:=→–—-][:\s]*|\n){_THEN} ?){_NAMED}|(?P<direct> ?))"
    r"(?:not \(?[A-J]\W{1,3}but )?"
    rf"|\b(?:option|choice|letter) {_IS}{_THEN} ?:? ?"
    rf"|\b(?:choos(?:e|ing)|chose|pick(?:ed)?|select(?:ed)?|go(?:ing)? with|opt for) {_NAMED}",
    re.IGNORECASE,
)
_POINTED = re.compile(
    rf"\b(?:it|this|that|which|so) (?:{_MUST}|corresponds to|matches|points to|leads to) {_NAMED}", re.IGNORECASE
)
_JUDGED = re.compile(
    rf" {_MUST} (?:therefore |thus |clearly |indeed )?(?:the )?(?:only |most )?"
    r"(?:correct|right|best|answer|accurate|appropriate)\b",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r" ?(?:[.;,\n]|\Z)")
_ANOTHER = re.compile(r" ?(?:,|/|&|\bor\b|\band\b)+ ?(?:or |and )?\(?[A-J]\)?(?= ?(?:[.;,)\n]|or\b|and\b|\Z))")
_WORD_AFTER = re.compile(
    r" (?!(?:as|because|based|but|by|due|for|from|given|if|in|on|per|since|so|through|though|when|where|which|while"
    r"|with)\b)[a-z]"
)
_UNSURE = re.compile(
    r"\b(?:if|whether|suppose|assume|assuming|unless|not|never|don't|wouldn't|cannot|can't)\b[^.,;:\n]{0,14}\Z",
    re.IGNORECASE,
)
_ALONE = re.compile(r"\W*([A-J])\W*\Z")
_OPENS = re.compile(r"\W*([A-J])(?:[).:]| because\b)(?:\s|\Z)")


def letter(text: str, options: int) -> str | None:
    """The letter of a multiple-choice answer, of the first `options` letters.

    It is that of the last claim: a box that names a letter, "the answer is C", "I choose option C". Without a claim,
    a last line that is only a letter, a first line that opens with "C)", or the last "C is correct". A claim of two
    letters is none. "Option C" alone claims nothing, and neither do the article A, the pronoun I, a negation, a
    condition or a question.
    """
    plain = _FONT.sub(r"\1", _FONT.sub(r"\1", unicodedata.normalize("NFKC", text)))
    plain = _tidy(_BOX.sub(r" answer: \1\2 . ", plain).translate(_PLAIN)).strip()
    allowed = "ABCDEFGHIJ"[:options]
    if claims := [said for anchor in _CLAIM.finditer(plain) if (said := _named(plain, anchor, allowed)) is not None]:
        return claims[-1] or None
    lines = plain.split("\n")
    for match in (_ALONE.match(lines[-1]), _OPENS.match(lines[0])):
        if match and match[1] in allowed:
            return match[1]
    pointed = [anchor for anchor in _POINTED.finditer(plain) if _named(plain, anchor, allowed, ends=True)]
    judged = [found for found in _LETTER.finditer(plain) if _JUDGED.match(plain, found.end())]
    found = [match for anchor in pointed if (match := _LETTER.match(plain, anchor.end()))] + judged
    said = _capital(max(found, key=lambda match: match.end())) if found else ""
    return said if said and said in allowed else None


def _capital(match: re.Match[str]) -> str:
    return "".join(filter(None, match.groups())).upper()


def _named(plain: str, anchor: re.Match[str], allowed: str, ends: bool = False) -> str | None:
    """The letter that follows `anchor`; "" when it names two; None when it claims none after all."""
    found = _LETTER.match(plain, anchor.end())
    if found is None or _UNSURE.search(plain[max(0, anchor.start() - 40) : anchor.start()]):
        return None
    said, rest = _capital(found), plain[found.end() : found.end() + 40]
    groups = anchor.groupdict()
    ends = ends or groups.get("direct") is not None
    if said not in allowed or rest.startswith("?") or (ends and not _CLAUSE_END.match(rest)):
        return None
    # "The answer: A good one would be" and "The answer is I think B" name no option.
    if found["bare"] and _WORD_AFTER.match(rest) and (said == "I" or (said == "A" and groups.get("colon"))):
        return None
    return "" if _ANOTHER.match(rest) else said


# ---------------------------------------------------------------- mathematical expressions
_MATHS = re.compile(r"(?<!\\)\$\$(.+?)\$\$|\\\[(.+?)\\\]|(?<!\\)\$((?:[^$\\]|\\.)+?)\$|\\\((.+?)\\\)", re.DOTALL)
_WORDS_BEFORE = re.compile(r"[^\n$\\\d(\[{]{0,40}\Z")
_PLAIN_ENDS = re.compile(r"(?<!\\)[.;!?](?=\s|$)|\n|,?\s(?:because|since|as|so|which)\b")
_WORD = re.compile(r"\\[A-Za-z]+(?:\{[a-z]*matrix\})?|\\(?:text|mbox)\{[^{}]*\}|([A-Za-z]{2,})")


def math_text(text: str) -> str | None:
    r"""The final expression of a MATH solution, without delimiters and full stop.

    The last box, or the last few when only "and", "or" or a comma stands between them; else what follows the last
    "answer is"; else a last line that is mathematics alone; else None.
    """
    found = _boxes(text)
    if found:
        parts = [found[-1][2]]
        for (_, end, inside), (start, _, _) in zip(reversed(found[:-1]), reversed(found[1:]), strict=True):
            between = text[end:start]
            if len(between) > 60 or not _BETWEEN.fullmatch(between) or not _JOINS.search(between):
                break
            parts.append(inside)
        return _bare(", ".join(dict.fromkeys(map(_bare, reversed(parts)))))
    for claim in _claims(text):
        if said := _expression(claim):
            return said
    last = text.strip().rpartition("\n")[2][:_LONGEST_CLAIM]
    return None if any(match[1] for match in _WORD.finditer(last)) else _bare(last) or None


def _expression(claim: str) -> str:
    first = _MATHS.search(claim)
    if first is None or not _WORDS_BEFORE.match(claim[: first.start()]):
        plain = _PLAIN_ENDS.split(claim.lstrip(), maxsplit=1)[0]
        return _bare(re.sub(r"\s(?:and|or)\s", ", ", plain))
    parts, end = [next(filter(None, first.groups()))], first.end()
    while (more := _MATHS.match(claim, end + (gap.end() if (gap := _AND.match(claim[end : end + 20])) else 0))) and gap:
        parts.append(next(filter(None, more.groups())))
        end = more.end()
    return _bare(", ".join(map(_bare, parts)))


_AND = re.compile(r"\s*(?:,\s*(?:and|or)?|\band\b|\bor\b)\s*")


def _bare(expression: str) -> str:
    """`expression` without what a sentence or a formula puts around it."""
    while True:
        inner = expression.strip().strip("*`").rstrip(",;:")
        inner = inner[:-1] if inner.endswith(".") and not inner.endswith("\\right.") else inner
        whole = _MATHS.fullmatch(inner)
        inner = next(filter(None, whole.groups())) if whole else inner
        if inner == expression:
            return expression
        expression = inner
