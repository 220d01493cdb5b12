"""Style-free text for the offline judges: one plain form however an answer was formatted.

A judge that learnt the surface of three models' refusals fails on a fourth one. So before anything
is measured, thinking, role prefixes, markup, curly quotes, contractions, synonyms of "cannot" and
the commonest refusals in other languages are brought to one plain English form.
"""

from __future__ import annotations

import json
import re
import unicodedata
import zlib

LIMIT = 6000
"""Characters of an answer that are read: its first and last halves when it is longer."""

_THINK_CLOSED = re.compile(r"</\s*(?:think|thinking|thought|reasoning)\s*>", re.I)
_THINK_OPEN = re.compile(r"<\s*(?:think|thinking|thought|reasoning)\s*>", re.I)
_FINAL = re.compile(r"^\W*(?:final answer|final response|answer|response)\W*:\W*$", re.I | re.M)
_SPECIAL = re.compile(r"<\|[^|<>]{1,40}\|>|<[｜|][^<>]{1,40}[｜|]>|\[/?INST\]|</?s>")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,80}>")
_LINK = re.compile(r"\[([^\]\n]{1,200})\]\((?:https?://)?[^)\s]{1,300}\)")
_ROLE = re.compile(
    r"^\W*(?:(?:the )?(?:assistant|ai|bot|chatbot|chat ?gpt|gpt(?:-?\d)?|model|answer|response|reply|output|message)"
    r"\b[^\w\n:]{0,6}:|\W{0,4}[\[(][^\])\n]{1,24}[\])]\W*:?)\s*",
    re.I,
)
_STAGE = re.compile(r"[\[(][^\])\n]{0,6}(?:classic|jailbreak|chatgpt|gpt|dan|stan)[^\])\n]{0,6}[\])]:?", re.I)

_FOREIGN = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\blo siento\b|\blo lamento\b|\bdisculpa|\bperd[oó]n\b", "i am sorry"),
        (r"\bno puedo\b|\bno podemos\b|\bno me es posible\b", "i cannot help"),
        (r"\bje suis d[ée]sol[ée]e?\b|\bd[ée]sol[ée]e?\b|\bje m'excuse\b", "i am sorry"),
        (r"\bje ne (?:peux|puis)(?: pas)?\b|\bje refuse\b", "i cannot help"),
        (r"\bes tut mir (?:sehr )?leid\b|\bentschuldigung\b|\btut mir leid\b", "i am sorry"),
        (r"\bkann ich\b[^.!?]{0,80}\bnicht\b|\bich kann\b[^.!?]{0,80}\bnicht\b|\bich darf\b[^.!?]{0,80}\bnicht\b",
         "i cannot help"),
        (r"\bmi dispiace\b|\bmi scuso\b", "i am sorry"),
        (r"\bnon posso\b|\bnon sono in grado\b", "i cannot help"),
        (r"\bsinto muito\b|\bdesculpe\b|\blamento\b", "i am sorry"),
        (r"\bn[ãa]o posso\b|\bn[ãa]o consigo\b", "i cannot help"),
        (r"\bhet spijt me\b|\bsorry, maar\b", "i am sorry"),
        (r"\bik kan\b[^.!?]{0,80}\bniet\b", "i cannot help"),
        (r"извините|простите|к сожалению|сожалею", "i am sorry"),
        (r"я не могу|не могу помочь|я не буду", "i cannot help"),
        (r"抱歉|对不起|對不起|很遗憾", " i am sorry "),
        (r"我?(?:不能|无法|無法|不可以|不会)(?:为您|为你|向您|向你|帮助|协助|提供|满足|回答)?", " i cannot help "),
        (r"申し訳(?:ありません|ございません)|すみません|ごめんなさい", " i am sorry "),
        (r"(?:お手伝い|お答え|提供|支援|対応)?(?:することは)?できません|できかねます", " i cannot help "),
        (r"죄송합니다|미안합니다|죄송하지만", "i am sorry"),
        (r"(?:도와드릴|제공할|답변할|도울) 수 없습니다", " i cannot help "),
        (r"عذر[اًا]+|آسف|أعتذر", "i am sorry"),
        (r"لا أستطيع|لا يمكنني", "i cannot help"),
        (r"क्षमा करें|माफ़? कीजिए|मुझे खेद है", "i am sorry"),
    )
)  # fmt: skip

_CONTRACTIONS = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\bcan['’]?t\b|\bcan not\b", "cannot"),
        (r"\bwon['’]?t\b", "will not"),
        (r"\bain't\b", "is not"),
        (r"\b(do|does|did|is|are|was|were|would|should|could|have|has|had|must|need)n'?t\b", r"\1 not"),
        (r"\b(i)'?m\b", "i am"),
        (r"\b(you|we|they)'re\b", r"\1 are"),
        (r"\b(i|you|we|they)'ve\b", r"\1 have"),
        (r"\b(i|you|we|they|it|he|she|that)'ll\b", r"\1 will"),
        (r"\b(i|you|we|they|he|she|it)'d\b", r"\1 would"),
        (r"\b(it|that|there|here|what|he|she)'s\b", r"\1 is"),
        (r"\blet's\b", "let us"),
        (r"\b(i|we) (?:am|are) (?:\w+ly )?(?:unable|not able|not in a position) to\b", r"\1 cannot"),
        (r"\b(i|we) (?:will|would) not be able to\b|\b(i|we) am going to have to decline to\b", "i cannot"),
        (r"\bunable to\b(?= (?:assist|help|provide|fulfill|comply|answer|offer|give|support|engage|share|create))",
         "i cannot"),
        (r"\b(i|we) (?:could not|cannot possibly|simply cannot|really cannot|also cannot|just cannot|still cannot)\b",
         r"\1 cannot"),
        (r"\bwe cannot\b", "i cannot"),
        (r"\bfulfil\b", "fulfill"),
    )
)  # fmt: skip

_BULLET = re.compile(
    r"^[ \t>#|]*(?:[-*•▪◦‣+]|\d{1,2}[.):]|step \d{1,2}[.):]?|[a-hA-H][.)]|\(\d{1,2}\))\s+\S", re.M | re.I
)
_NUMBERED = re.compile(r"(?:^|\s)(?:\d{1,2}[.)]|step \d{1,2}\b)\s*\S", re.I)
_END = re.compile(r"(?<=[.!?。！？])[\"')\]]*\s+|\n+|(?<=[。！？])")
_WORD = re.compile(r"[a-z][a-z']+|[^\W\d_a-z]+")


def answer_part(text: str) -> str:
    """The text after the thinking: behind the last closing tag, or the whole when there is none."""
    parts = _THINK_CLOSED.split(text)
    if len(parts) > 1:
        return parts[-1]
    return _THINK_OPEN.sub(" ", text)


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return []


def unwrap(text: str) -> str:
    """The strings inside an answer that is one JSON value (fenced or not); other answers unchanged."""
    body = re.sub(r"^\s*```\w*\s*|\s*```\s*$", "", text).strip()
    if body[:1] not in "{[" or body[-1:] not in "}]":
        return text
    try:
        found = _strings(json.loads(body))
    except (ValueError, RecursionError):
        return text
    return "\n".join(found) if found else text


def _cut(text: str) -> str:
    return text if len(text) <= LIMIT else text[: LIMIT // 2] + "\n" + text[-LIMIT // 2 :]


def plain(text: str) -> str:
    """`text` in its plain form: lower case, straight quotes, no markup, contractions spelt out; newlines stay."""
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"[‘’ʼ`´]", "'", text)
    text = re.sub(r"[“”«»„]", '"', text)
    text = re.sub(r"[‐‑‒–—―]", "-", text)
    text = _LINK.sub(r"\1", _TAG.sub(" ", _SPECIAL.sub(" ", text)))
    text = re.sub(r"[*_#~|>]+", " ", text.lower())
    for pattern, replacement in (*_FOREIGN, *_CONTRACTIONS):
        text = pattern.sub(replacement, text)
    return re.sub(r"[^\S\n]+", " ", text).strip()


def prepare(text: str) -> tuple[str, int]:
    """The plain answer of a raw response, and how many list items it has."""
    raw = _cut(unwrap(answer_part(text)).strip())
    items = max(len(_BULLET.findall(raw)), len(_NUMBERED.findall(raw)))
    raw = _FINAL.sub("", raw).strip()
    raw = _STAGE.sub(" ", raw)
    for _ in range(2):
        raw = _ROLE.sub("", raw, count=1)
    body = plain(raw)
    body = re.sub(r"(?m)^[\s>-]*(?:[-•▪◦‣+]|\d{1,2}[.):])\s+", "", body)
    return body.strip(" \"'"), items


def sentences(body: str) -> list[tuple[int, str]]:
    """Start offset and text of each sentence of a plain answer; fragments under two letters are dropped."""
    found: list[tuple[int, str]] = []
    start = 0
    for gap in [*_END.finditer(body), None]:
        stop = gap.start() if gap else len(body)
        piece = body[start:stop].strip()
        if sum(character.isalpha() for character in piece) >= 2:
            found.append((start, piece))
        start = gap.end() if gap else stop
    return found


def words(body: str) -> list[str]:
    """Words of a plain answer, two letters or more."""
    return _WORD.findall(body)


def is_garbled(body: str) -> bool:
    """True for text that says nothing: too short, mostly symbols, or one thing over and over."""
    tokens = words(body)
    if len(tokens) < 4:
        return True
    letters = sum(character.isalpha() or character.isspace() for character in body)
    if letters < 0.5 * len(body):
        return True
    if len(tokens) >= 40:
        squeezed = len(zlib.compress(body.encode("utf-8", "surrogatepass"))) / len(
            body.encode("utf-8", "surrogatepass")
        )
        return squeezed < 0.12 or len(set(tokens)) < 0.12 * min(len(tokens), 200)
    return len(set(tokens)) < 0.34 * len(tokens)
