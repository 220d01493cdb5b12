"""From a prompt and a response to numbers: cues by place (dense) and hashed words by place (sparse)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from star1lib.evaluation.judges.patterns import CUES, NEGATION, OWN, PIECE, SALUTATION, STOP
from star1lib.evaluation.judges.text import is_garbled, plain, prepare, sentences, words

BUCKETS = 1 << 16
_SUFFIX = re.compile(r"(?:ing|ed|es|s|ly)$")
_QUOTED = re.compile(r'"[^"\n]{3,400}"')
ZONES = ("first", "early", "end", "share")


class Reading(NamedTuple):
    """One response as the judges see it: plain prompt and body, sentences, sentence numbers of each cue."""

    prompt: str
    body: str
    sents: list[str]
    hits: dict[str, set[int]]
    piece: bool
    garbled: bool


def content(text: str) -> set[str]:
    """Stems of the words of a plain text that carry meaning."""
    found = (word for word in words(text) if word not in STOP and len(word) > 2)
    return {_SUFFIX.sub("", word)[:7] if len(word) > 4 else word for word in found}


def _voices(prompt: str, body: str) -> tuple[str, bool]:
    """`body` without quotations, and whether all of it is a text that was asked for (a letter, a translation).

    Declining in a text or a translation is not declining to write it, unless it names an act of ours.
    """
    rest = _QUOTED.sub(" ", body)
    body = rest if len(words(rest)) > 3 else body
    own = OWN.search(" ".join(sentences(body)[:2])) and not CUES["decline"].search(prompt)
    return body, bool(PIECE.search(prompt)) and (bool(SALUTATION.search(body)) or not own)


@lru_cache(maxsize=4096)
def read(prompt: str, response: str) -> Reading:
    """The plain form of an answer, and for each cue the sentences (by number) where it occurs."""
    asked = plain(prompt)
    body = prepare(response)
    heard, piece = _voices(asked, body)
    sents = sentences(heard)
    hits = {name: {at for at, sent in enumerate(sents) if cue.search(sent)} for name, cue in CUES.items()}
    if piece:
        hits |= {"decline": set(), "object": set(), "sorry": set()}
    return Reading(asked, body, sents, hits, piece, is_garbled(body))


def _after(reading: Reading) -> list[str]:
    """The sentences after the last declining or objecting that carry no cue."""
    last = max(reading.hits["decline"] | reading.hits["object"], default=-1)
    busy = set().union(*reading.hits.values())
    return [text for at, text in enumerate(reading.sents) if at > last and at not in busy]


def _size(sents: Sequence[str]) -> int:
    return sum(len(words(text)) for text in sents)


def facts(prompt: str, response: str) -> dict[str, float]:
    """Each cue by place in the answer; how many words, and how many after the last declining beside all cues; noise."""
    reading = read(prompt, response)
    count = max(1, len(reading.sents))
    values: dict[str, float] = {}
    for name, at in reading.hits.items():
        ends = (0 in at, bool(at & {0, 1, 2}), any(index >= max(1, count - 2) for index in at), len(at) / count)
        values |= {f"{name}_{zone}": float(value) for zone, value in zip(ZONES, ends, strict=True)}
    long = {"words": max(1, sum(len(words(text)) for text in reading.sents)), "after": _size(_after(reading))}
    scaled = {name: float(np.log1p(size)) / 6 for name, size in long.items()}
    return values | scaled | {"garbled": float(reading.garbled)}


NAMES: tuple[str, ...] = tuple(facts("How can I help?", "I can help you with that today."))


def _buckets(zone: str, text: str, longest: int) -> set[int]:
    found = words(text)
    grams = (" ".join(found[at : at + n]) for n in range(1, longest + 1) for at in range(len(found) - n + 1))
    return {zlib.crc32(f"{zone} {gram}".encode()) % BUCKETS for gram in grams}


def grams(prompt: str, response: str) -> np.ndarray:
    """Buckets (sorted, each once) of the words, pairs and triples of the answer, its start and its end."""
    sents = read(prompt, response).sents
    places = {"1": sents[:1], "3": sents[:3], "b": sents, "e": sents[-2:]}
    return np.array(
        sorted(set().union(*(_buckets(zone, " ".join(s), 3) for zone, s in places.items()))), dtype=np.int64
    )


def asked(prompt: str, side: str = "") -> np.ndarray:
    """Buckets (sorted, each once) of the words, pairs and stems of a prompt; `side` keeps kinds of answers apart."""
    text = plain(prompt)
    stems = {zlib.crc32(f"s{side} {stem}".encode()) % BUCKETS for stem in content(text)}
    return np.array(sorted(_buckets(f"q{side}", text, 2) | stems), dtype=np.int64)


@dataclass(frozen=True)
class Inputs:
    """What the judges read of n answers: facts (n, f), buckets of the answer's words, and of the question's.

    The question's words are told apart by whether the answer's start declines or denies: what is said against a
    question depends on it.
    """

    facts: np.ndarray
    grams: list[np.ndarray]
    asked: list[np.ndarray]

    def at(self, which: np.ndarray) -> Inputs:
        """The rows where `which` (n,) is true."""
        chosen = np.flatnonzero(which)
        grams, asked = ([rows[at] for at in chosen] for rows in (self.grams, self.asked))
        return Inputs(self.facts[chosen], grams, asked)


def inputs(prompts: Sequence[str], responses: Sequence[str]) -> Inputs:
    """Read every pair; a pair that comes again is read once."""
    pairs = list(zip(prompts, responses, strict=True))
    known = {}
    for pair in dict.fromkeys(pairs):
        found = facts(*pair)
        denies = found["decline_early"] or found["object_early"] or NEGATION.search(" ".join(read(*pair).sents[:1]))
        known[pair] = (list(found.values()), grams(*pair), asked(pair[0], "against" if denies else "with"))
    values, words_said, words_asked = zip(*(known[pair] for pair in pairs), strict=True)
    return Inputs(np.array(values, np.float32), list(words_said), list(words_asked))
