"""The sharded join keeps what the one-machine join keeps."""

from __future__ import annotations

import importlib.util

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star1lib.collection import dedup, sharded
from star1lib.errors import UserError

WORDS = ("how", "make", "cake", "home", "safe", "child", "école", "naïve", "数据", "🙂", "x", "to", "the", "a", "what")
TEXT = st.one_of(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), st.just("word " * 300), st.just(""))
SMALL = ["how to bake bread", "", "how to bake bread", "something else", "HOW to bake the bread", "", "bake bread"]


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXT, max_size=25), threshold=st.sampled_from([0.3, 0.6, 1.0]), block=st.sampled_from([1, 4, 50]))
def test_the_same_set_as_on_one_machine(texts: list[str], threshold: float, block: int) -> None:
    assert sharded.greedy_tfidf(texts, threshold, block) == dedup.greedy_tfidf(texts, threshold)


def test_the_walk_is_the_definition_on_a_chain() -> None:
    assert sharded.walk(4, [(1, 0, 0.9), (2, 1, 0.9), (3, 2, 0.9)]) == [0, 2]
    assert sharded.walk(0, []) == []


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an optional extra (scale)")
def test_a_local_ray_run_keeps_the_same_set() -> None:
    assert sharded.greedy_tfidf(SMALL, 0.6, 3, "ray") == dedup.greedy_tfidf(SMALL, 0.6)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_there_is_a_sentence() -> None:
    with pytest.raises(UserError, match="Ray is not installed"):
        sharded.greedy_tfidf(SMALL, engine="ray")


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(UserError, match="engine 'abacus': not known"):
        sharded.greedy_tfidf(SMALL, engine="abacus")  # type: ignore[arg-type]
