"""One plain form of an answer, however it was written: what the offline judges read (paper 3.2).

Thinking, markup, JSON, zero-width and look-alike letters, contractions and the commonest refusals of other languages
become plain lower-case English by `assets/judge/phrases.yaml`, so that style cannot move a label.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
import zlib
from collections.abc import Sequence
from pathlib import Path

import yaml

from star1lib.models.chat import split_thinking

PHRASES = Path(__file__).parents[2] / "assets" / "judge" / "phrases.yaml"
_KNOWN = yaml.safe_load(PHRASES.read_text(encoding="utf-8"))


def _any(phrases: Sequence[str]) -> str:
    """A pattern for any of the phrases, their parts put in."""
    source = "|".join(phrases)
    for name, parts in _KNOWN["parts"].items():
        source = source.replace(f"{{{name}}}", f"(?:{'|'.join(parts)})")
    return source


CUES = {name: re.compile(_any(phrases), re.M) for name, phrases in _KNOWN["cues"].items()}
_FOREIGN = [(re.compile(rf"\b(?:{_any(_KNOWN[name]['words'])})\b|{_any(_KNOWN[name]['anywhere'])}"), plainly)
            for name, plainly in (("sorry", " i am sorry "), ("cannot", " i cannot help "))]  # fmt: skip
_CONTRACTIONS = [(re.compile(pattern), replacement) for pattern, replacement in _KNOWN["contractions"]]
STOP = frozenset(_KNOWN["stop"].split())
_SHAPES = {name: re.compile(source) for name, source in _KNOWN["shapes"].items()}
CURT, TURN, NEGATION, PIECE = (_SHAPES[name] for name in ("curt", "turn", "negation", "piece"))
SALUTATION, OWN, _MARKUP, _LEAD = (_SHAPES[name] for name in ("salutation", "own", "markup", "lead"))

LIMIT = 6000  # characters of an answer that are read: its first and last halves when it is longer
_LOOKALIKE = str.maketrans("аеорсухіјѕԁһɡαορνκιτυᴀɪ", "aeopcyxijsdhgaopvkituai")
_MIXED = re.compile(r"[^\W\d_]*[a-zA-Z][^\W\d_]*")
_ITEM = re.compile(r"(?m)^[\s>#-]*(?:[-*•▪◦‣+]|(?:step )?\d{1,2}[.):]|[a-hA-H][.)])\s+")
_END = re.compile(r"(?<=[.!?。！？])[\"')\]]*\s+|\n+|(?<=[。！？])")
_FENCE = re.compile(r"^\s*```\w*\s*|\s*```\s*$")
_STRING = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?')
words = re.compile(r"[a-z][a-z']*|[^\W\d_a-z]+|\d+").findall  # the words and numbers of a plain text


def plain(text: str) -> str:
    """`text` in its plain form: lower case, straight quotes, no markup, contractions spelt out; newlines stay."""
    text = unicodedata.normalize("NFKC", html.unescape(text.replace("´", "'")))
    text = "".join(letter for letter in text if unicodedata.category(letter) not in ("Cf", "Cs"))
    text = re.sub(r"[‘’ʼ`´]", "'", _MIXED.sub(lambda word: word[0].translate(_LOOKALIKE), text))
    text = re.sub(r"[‐‑‒–—―]", "-", re.sub(r"[“”«»„]", '"', text))
    text = re.sub(r"[*_#~|>\[\]]+", " ", _MARKUP.sub(" ", text).lower())
    for pattern, replacement in _FOREIGN + _CONTRACTIONS:
        text = pattern.sub(replacement, text)
    return re.sub(r"[^\S\n]+", " ", text).strip()


def unwrap(text: str) -> str:
    """The strings inside an answer that is one JSON value (fenced or not); other answers unchanged."""
    body = _FENCE.sub("", text).strip()
    if not re.fullmatch(r"[{\[].*[}\]]", body, re.S):
        return text
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return text
    return "\n".join(json.loads(value) for value, key in _STRING.findall(body) if not key) or text


def prepare(text: str) -> str:
    """The plain answer of a raw response, without the marks of list items."""
    raw = unwrap(split_thinking(text).answer).strip()
    raw = raw if len(raw) <= LIMIT else raw[: LIMIT // 2] + "\n" + raw[-LIMIT // 2 :]
    body = _ITEM.sub("", _LEAD.sub("", _LEAD.sub("", plain(_MARKUP.sub(" ", raw)))))
    return body.strip() if body.count('"') > 2 or body.rstrip()[-1:] != '"' else body.strip(" \"'")


def sentences(body: str) -> list[str]:
    """The sentences of a plain answer; fragments under two letters are dropped."""
    return [piece.strip() for piece in _END.split(body) if sum(map(str.isalpha, piece)) >= 2]


def is_garbled(body: str) -> bool:
    """True for text that says nothing: too short, mostly symbols, or one thing over and over."""
    tokens = words(body)
    if len(tokens) < 4 or sum(map(str.isalpha, body)) + sum(map(str.isspace, body)) < 0.5 * len(body):
        return True
    if len(tokens) < 40:
        return len(set(tokens)) < 0.34 * len(tokens)
    data = body.encode("utf-8")
    return len(zlib.compress(data)) < 0.12 * len(data) or len(set(tokens)) < 0.12 * min(len(tokens), 200)
