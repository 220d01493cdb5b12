"""Audits: injected flaws, how scorers separate them, agreement of scorers and taggers."""

import math

import made
import pytest

from star1lib.collection import corpus
from star1lib.collection import released as published
from star1lib.deliberation import taggers
from star1lib.policies import CATEGORIES, OTHER
from star1lib.selection import audit
from star1lib.selection import reading as wording
from star1lib.selection import scorers as scoring


@pytest.fixture(scope="module")
def good():
    """Hand-written good traces as examples."""
    return [
        made.example(row.question, category=row.category, thinking=row.thinking, answer=row.answer, score=made.scores())
        for row in corpus.load().harmful[::4]
    ]


@pytest.mark.parametrize("flaw", audit.FLAWS)
def test_an_injected_flaw_is_named_repeatable_and_unscored(good, flaw) -> None:
    for example in good[:10]:
        flawed = audit.inject(example, flaw, seed=3)
        assert flawed == audit.inject(example, flaw, seed=3)
        assert flawed.meta["flaw"] == flaw and flawed.score is None
        assert (flawed.thinking, flawed.answer) != (example.thinking, example.answer)
        assert (flawed.id, flawed.question, flawed.category) == (example.id, example.question, example.category)


def test_seeds_and_phrasings_differ(good) -> None:
    made = [audit.inject(good[0], "unsafe_detail", seed) for seed in range(12)]
    assert len({flawed.answer for flawed in made}) > 3
    assert {flawed.meta["phrasing"] for flawed in made} == {"known", "new"}
    assert all(e.thinking == good[0].thinking and e.answer.startswith(good[0].answer) for e in made)


def test_wrong_policy_quotes_a_rule_of_another_category(good) -> None:
    home = wording.CATEGORY_OF_RULE
    for example in good:
        quoted = wording.quoted_rules(audit.inject(example, "wrong_policy").thinking)
        assert quoted and not {home[name] for name in quoted} & set(example.category)


def test_named_not_quoted_names_the_policy_and_quotes_nothing(good) -> None:
    for example in good:
        thinking = audit.inject(example, "named_not_quoted").thinking
        assert wording.quoted_rules(thinking) == [] and example.category[0] in thinking


def test_rules_on_the_corpus(good) -> None:
    rows = {row["flaw"]: row for row in audit.scorer_table(good, scoring.score)}
    assert list(rows) == list(audit.FLAWS)
    assert all(row["traces"] == len(good) and row["clean_full_marks"] > 0.9 for row in rows.values())
    assert rows["wrong_policy"]["auc"] > 0.95 and rows["named_not_quoted"]["auc"] > 0.95
    assert rows["contradiction"]["auc_known"] > 0.9 and rows["unsafe_detail"]["auc_known"] > 0.9


def test_a_perfect_and_a_blind_scorer(good) -> None:
    def perfect(example):
        return made.scores(*[0 if example.meta.get("flaw") else 10] * 3)

    def blind(example):
        return made.scores()

    assert {row["auc"] for row in audit.scorer_table(good, perfect)} == {1.0}
    for row in audit.scorer_table(good, blind):
        assert (row["auc"], row["caught"], row["clean_full_marks"]) == (0.5, 0.0, 1.0)


def test_traces_without_a_policy_are_left_out(good) -> None:
    other = good[0].model_copy(update={"category": [OTHER]})
    assert audit.scorer_table([other, *good[:3]], scoring.score)[0]["traces"] == 3


def test_rules_on_published_traces(mirror) -> None:
    """Real DeepSeek-R1 traces, a sample for speed; the notebook runs more of them."""
    examples = published.load("STAR-1", mirror)[::10]
    rows = {row["flaw"]: row for row in audit.scorer_table(examples, scoring.score)}
    assert rows["wrong_policy"]["auc"] > 0.9 and rows["named_not_quoted"]["auc"] > 0.8
    assert rows["contradiction"]["auc_known"] > 0.9 and rows["unsafe_detail"]["auc_known"] > 0.9


def test_agreement_of_two_scorers() -> None:
    first = [made.scores(n, 10, n % 3) for n in range(11)]
    rows = {row["criterion"]: row for row in audit.scorer_agreement(first, first)}
    assert {row["weighted_kappa"] for row in rows.values()} == {1.0} and rows["accuracy"]["equal"] == 1.0
    second = [made.scores(10 - n, 10, n % 3) for n in range(11)]
    assert audit.scorer_agreement(first, second)[0]["weighted_kappa"] == pytest.approx(-1.0)
    assert math.isnan(audit.scorer_agreement([], [])[0]["weighted_kappa"])


def test_tagger_table_by_hand() -> None:
    gold = [[CATEGORIES[0]], [CATEGORIES[0], CATEGORIES[1]], [CATEGORIES[1]]]
    guess = [[CATEGORIES[0]], [CATEGORIES[0]], [CATEGORIES[0]]]
    rows = {row["category"]: row for row in taggers.tagger_table(gold, guess)}
    first = {"f1": pytest.approx(0.8), "precision": pytest.approx(2 / 3), "recall": 1.0, "gold": 2, "tagged": 3}
    assert rows[CATEGORIES[0]] == {"category": CATEGORIES[0], **first}
    assert rows[CATEGORIES[1]]["f1"] == 0.0 and rows[CATEGORIES[1]]["precision"] == 0.0
    assert rows["micro"]["f1"] == pytest.approx(4 / 7) and rows["macro"]["f1"] == pytest.approx(0.4)


def test_halves_share_nothing_and_depend_on_ids_alone() -> None:
    ids = [f"id{n}" for n in range(11)]
    first, second = taggers.halves(ids)
    assert sorted(first + second) == list(range(11)) and abs(len(first) - len(second)) == 1
    turned = taggers.halves(ids[::-1])[0]
    assert {ids[i] for i in first} == {ids[::-1][i] for i in turned}
