"""One plain form of an answer, however it was written: what the offline judges read (paper 3.2).

Thinking, markup, JSON, zero-width and look-alike letters, contractions and the commonest refusals of other
languages are brought to plain lower-case English, so that style cannot move a label.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
import zlib

from star1lib.evaluation.judges.patterns import CONTRACTIONS, FOREIGN_CANNOT, FOREIGN_SORRY
from star1lib.models.chat import split_thinking

LIMIT = 6000
"""Characters of an answer that are read: its first and last halves when it is longer."""

_LOOKALIKE = str.maketrans("аеорсухіјѕԁһɡαορνκιτυᴀɪ", "aeopcyxijsdhgaopvkituai")
_MIXED = re.compile(r"[^\W\d_]*[a-zA-Z][^\W\d_]*")
_MARKUP = re.compile(
    r"<\|[^|<>]{1,40}\|>|<[｜|][^<>]{1,40}[｜|]>|\[/?INST\]|</?[a-zA-Z][^<>]{0,80}>|(?<=\])\([^)\s]{1,300}\)"
)
_LEAD = re.compile(
    r"^\W*(?:(?:the )?(?:final )?(?:assistant|ai|bot|chatbot|chat ?gpt|gpt(?:-?\d)?|model|answer|response|reply|output"
    r"|message)\b[^\w\n:]{0,6}:\W*|[\[(][^\])\n]{1,24}[\])]\W*?:\s*)",
    re.I,
)
_ITEM = re.compile(r"(?m)^[\s>#-]*(?:[-*•▪◦‣+]|(?:step )?\d{1,2}[.):]|[a-hA-H][.)])\s+")
_END = re.compile(r"(?<=[.!?。！？])[\"')\]]*\s+|\n+|(?<=[。！？])")
_WORD = re.compile(r"[a-z][a-z']*|[^\W\d_a-z]+|\d+")


def _latin(word: re.Match[str]) -> str:
    """A word of Latin letters and others that look like them, all Latin."""
    return word[0].translate(_LOOKALIKE)


def plain(text: str) -> str:
    """`text` in its plain form: lower case, straight quotes, no markup, contractions spelt out; newlines stay."""
    text = unicodedata.normalize("NFKC", html.unescape(text.replace("´", "'")))
    text = "".join(letter for letter in text if unicodedata.category(letter) not in ("Cf", "Cs"))
    text = re.sub(r"[‘’ʼ`´]", "'", _MIXED.sub(_latin, text))
    text = re.sub(r"[‐‑‒–—―]", "-", re.sub(r"[“”«»„]", '"', text))
    text = re.sub(r"[*_#~|>\[\]]+", " ", _MARKUP.sub(" ", text).lower())
    text = FOREIGN_CANNOT.sub(" i cannot help ", FOREIGN_SORRY.sub(" i am sorry ", text))
    for pattern, replacement in CONTRACTIONS:
        text = pattern.sub(replacement, text)
    return re.sub(r"[^\S\n]+", " ", text).strip()


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


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


def prepare(text: str) -> str:
    """The plain answer of a raw response, without the marks of list items."""
    raw = unwrap(split_thinking(text).answer).strip()
    raw = raw if len(raw) <= LIMIT else raw[: LIMIT // 2] + "\n" + raw[-LIMIT // 2 :]
    body = _LEAD.sub("", _LEAD.sub("", plain(_MARKUP.sub(" ", raw))))
    body = _ITEM.sub("", body)
    return body.strip() if body.count('"') > 2 or body.rstrip()[-1:] != '"' else body.strip(" \"'")


def sentences(body: str) -> list[str]:
    """The sentences of a plain answer; fragments under two letters are dropped."""
    return [piece.strip() for piece in _END.split(body) if sum(map(str.isalpha, piece)) >= 2]


def words(text: str) -> list[str]:
    """Words and numbers of a plain text."""
    return _WORD.findall(text)


def is_garbled(body: str) -> bool:
    """True for text that says nothing: too short, mostly symbols, or one thing over and over."""
    tokens = words(body)
    if len(tokens) < 4 or sum(map(str.isalpha, body)) + sum(map(str.isspace, body)) < 0.5 * len(body):
        return True
    if len(tokens) < 40:
        return len(set(tokens)) < 0.34 * len(tokens)
    data = body.encode("utf-8")
    return len(zlib.compress(data)) < 0.12 * len(data) or len(set(tokens)) < 0.12 * min(len(tokens), 200)
