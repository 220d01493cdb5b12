"""Recipes: a random sample, benign rows, own answers, seeds, and what never is in a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinymodel

from star1lib import files as io
from star1lib.errors import UserError
from star1lib.models import chat, checkpoints, embed
from star1lib.records import Example, Question, Scores, question_id
from star1lib.training import sft, stage0, variants
from star1lib.training.rows import TrainRow, rows, split_benign, tokenize
from star1lib.training.variants import Bases, Recipe, TrainingData

BENIGN = ["apple pie", "bees", "chess openings", "dust", "eels", "folk songs", "geese", "hats", "ink", "jam"]
SETTINGS = {"epochs": 1, "batch_size": 2, "max_length": 96, "dtype": "float32"}


def example(text: str, answer: str = "I can't help.") -> Example:
    return Example(id=question_id(text), question=text, source="s", category=["Self-Harm"], thinking="Let me weigh it.",
                   answer=answer, teacher="t")  # fmt: skip


@pytest.fixture(autouse=True)
def no_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "encode", lambda texts: np.zeros((len(texts), 2)))


@pytest.fixture
def selection(tmp_path: Path) -> Path:
    """Twenty selected rows of growing length, ten benign variants, and no medium row."""
    folder = tmp_path / "selection"
    io.write_jsonl(folder / "selected.jsonl", [example(f"question {i}" + " long" * i) for i in range(20)])
    io.write_jsonl(folder / "medium.jsonl", [])
    io.write_jsonl(folder / "benign_variants.jsonl", [example(text, "Of course, here is how.") for text in BENIGN])
    return folder


@pytest.fixture
def bases(small: str) -> Bases:
    return Bases([variants.base_variant(small)], ["Why?", "How?"], [])


def data(selection: Path, bases: Bases, benign: int = 4) -> TrainingData:
    return TrainingData(bases, selection, selection / "models", 0, benign)


def test_the_sample_is_random_not_the_shortest(selection: Path, bases: Bases) -> None:
    drawn = data(selection, bases).rows(Recipe(rows=8), 0)
    lengths = sorted(len(row.prompt) for row in drawn)
    assert lengths != sorted(len(f"question {i}" + " long" * i) for i in range(20))[:8]
    assert drawn == data(selection, bases).rows(Recipe(rows=8), 0) != data(selection, bases).rows(Recipe(rows=8), 1)
    assert data(selection, bases).rows(Recipe(rows=4), 0) == drawn[:4], "more rows hold the fewer ones"


def test_benign_variants_are_held_out_whatever_a_variant_takes(selection: Path, bases: Bases) -> None:
    trained = data(selection, bases).rows(Recipe(thinking=False, rows=2, benign=3), 0)
    held = {one.question for one in variants.held_out_benign(selection, 4, 0)}
    assert len(held) == 6
    assert not held & {row.prompt for row in trained}
    assert sum(row.kind == "benign" for row in trained) == 3
    with pytest.raises(UserError, match="benign rows asked for"):
        data(selection, bases).rows(Recipe(benign=5), 0)
    assert split_benign([example(text) for text in BENIGN], 10, 0)[1] == []


def test_anchors_are_the_bases_own_answers(selection: Path, bases: Bases, monkeypatch: pytest.MonkeyPatch) -> None:
    own = [TrainRow(id=str(i), prompt=f"p{i}", completion="So.", source=stage0.OWN, kind="anchor") for i in range(3)]
    monkeypatch.setattr(stage0, "own_answers", lambda *_, **__: own)
    drawn = data(selection, bases).rows(Recipe(rows=2, anchors=3), 0)
    assert sorted(row.kind for row in drawn) == ["anchor"] * 3 + ["safety"] * 2
    with pytest.raises(UserError, match="4 anchors asked for, 3 own answers"):
        data(selection, bases).rows(Recipe(anchors=4), 0)


def test_no_row_is_near_a_test_question(selection: Path, bases: Bases) -> None:
    tested = Bases(bases.variants, [], [Question.make("question 3 long long long", "test")])
    asked = {row.prompt for row in data(selection, tested).rows(Recipe(), 0)}
    assert "question 3 long long long" not in asked
    assert "question 0" in asked


def test_an_empty_pool_and_an_unknown_base_are_sentences(selection: Path, bases: Bases) -> None:
    with pytest.raises(UserError, match="no rows in this pool"):
        data(selection, bases).rows(Recipe(pool="medium"), 0)
    with pytest.raises(UserError, match="base 'plain' is not known"):
        data(selection, bases).rows(Recipe(base="plain"), 0)


def test_seeds_steps_and_what_the_table_says(selection: Path, bases: Bases, tmp_path: Path) -> None:
    recipes: dict[str, dict[str, Any]] = {"star1": {"rows": 4}, "longer": {"rows": 4, "thinking": False, "steps": 3}}
    trained, curves = variants.train_variants(recipes, data(selection, bases), SETTINGS, seeds=[0, 1])
    assert [one.name for one in trained] == ["star1", "star1_seed1", "longer", "longer_seed1"]
    assert [one.thinking for one in trained] == [True, True, False, False]
    variants.write(tmp_path / "stage", trained, curves, bases=bases)
    assert variants.read(tmp_path / "stage", tmp_path / "stage") == trained
    assert variants.read_bases(tmp_path / "stage") == bases
    table = {row["name"]: row for row in variants.table(trained, curves)}
    assert (table["star1"]["steps"], table["longer"]["steps"], table["the paper"]["steps"]) == (2, 3, 40)
    assert 0 < table["star1"]["sum_of_rates"] < table["longer"]["sum_of_rates"] < 3 * 1e-5


def test_a_trained_checkpoint_carries_the_template_that_it_is_asked_with(
    selection: Path, bases: Bases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What any server makes of the folder alone is the prompt of the training rows, whatever the recipe."""
    thinker = tinymodel.save(tmp_path / "thinker", 1)
    checkpoints.open_thinking(thinker)
    both = Bases([*bases.variants, variants.base_variant(str(thinker), "thinker")], [], [])
    recipes: dict[str, dict[str, Any]] = {
        f"{base}_{thinking}": {"base": base, "thinking": thinking, "rows": 2}
        for base in ("base", "thinker") for thinking in (True, False)
    }  # fmt: skip
    asked = (recipes, data(selection, both), SETTINGS)
    trained, _ = variants.train_variants(*asked)
    monkeypatch.setattr(sft, "fit", None)
    assert variants.train_variants(*asked)[0] == trained, "a second time nothing is trained"
    for one in trained:
        tokenizer = checkpoints.load_tokenizer(one.checkpoint)
        asked = [{"role": "user", "content": "question 0"}]
        prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        # A reasoning model thinks whatever its rows held; a plain one only where they did.
        assert one.thinking == prompt.endswith("<think>\n") == (one.name != "base_False"), one.name
        base = checkpoints.load_tokenizer(both[one.base].checkpoint)
        [row] = rows([example("question 0")], thinking=one.name.endswith("True"), reasoner=both[one.base].thinking)
        made = tokenize(row, base, 512)
        prompted = [token for token, loss in zip(made["input_ids"], made["completion_mask"], strict=True) if not loss]
        opened = one.thinking and not both[one.base].thinking  # there the rows say the opening tag themselves
        assert prompt == base.decode(prompted) + chat.THINK_OPEN * opened


def test_thinking_is_the_templates_forced_or_none(
    selection: Path, bases: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain model with the trace in its rows: asked by its own template or by one that opens the thinking."""
    recipes: dict[str, dict[str, Any]] = {
        name: {"thinking": name, "rows": 2} for name in ("template", "forced", "none")
    }  # fmt: skip
    trained, _ = variants.train_variants(recipes, data(selection, bases), SETTINGS)
    assert len({one.checkpoint for one in trained}) == 3
    for one in trained:
        opened = chat.opens_thinking(checkpoints.load_tokenizer(one.checkpoint))
        assert one.thinking == opened == (one.name == "forced"), one.name
    traces = {name: {"<think>" in row.completion for row in data(selection, bases).rows(Recipe(**recipe), 0)}
              for name, recipe in recipes.items()}  # fmt: skip
    assert traces == {"template": {True}, "forced": {True}, "none": {False}}
    monkeypatch.setattr(sft, "fit", None)  # the older words are the same variants
    same = {"forced": {"thinking": True, "rows": 2}, "none": {"thinking": False, "rows": 2}}
    assert variants.train_variants(same, data(selection, bases), SETTINGS)[0] == trained[1:]
    with pytest.raises(UserError, match=r"variants.x: field 'thinking"):
        variants.train_variants({"x": {"thinking": "always"}}, data(selection, bases), SETTINGS)


def test_without_stage_0_the_model_is_the_base(bases: Bases, tmp_path: Path) -> None:
    model = bases.variants[0].checkpoint
    made, curve = variants.make_bases(model, {}, training=SETTINGS, tests=[], models=tmp_path, seed=0)
    assert (made.variants, curve) == (bases.variants, [])
    assert made.prompts == stage0.harmless()
    with pytest.raises(UserError, match="stage0"):
        variants.make_bases(model, {"sums": 3}, training=SETTINGS, tests=[], models=tmp_path, seed=0)


def test_stage_0_makes_the_base_and_keeps_the_plain_model(bases: Bases, tmp_path: Path) -> None:
    model = bases.variants[0].checkpoint
    settings = {"arithmetic": 4, "own": 0, "training": {"learning_rate": 1e-3}}
    made, curve = variants.make_bases(model, settings, training=SETTINGS, tests=[], models=tmp_path, seed=0)
    assert [(one.name, one.thinking) for one in made.variants] == [("base", True), ("plain", False)]
    assert {row["variant"] for row in curve} == {"stage 0"}


def test_a_released_checkpoint_is_evaluated_and_not_trained(selection: Path, bases: Bases, tmp_path: Path) -> None:
    checkpoint = str(tinymodel.save(tmp_path / "theirs", seed=1))
    recipe = {"checkpoint": checkpoint}
    asked = data(selection, bases)
    [found], losses = variants.train_variants({"theirs": recipe}, asked, {})
    assert (found.name, found.checkpoint, found.pool, found.rows) == ("theirs", checkpoint, variants.RELEASED, 0)
    assert losses == [] and asked.rows_of({"theirs": recipe}) == [] and not Path(asked.models).exists()
    with pytest.raises(UserError, match=r"model 'owner/model': no folder here, and no pin .* pin-model owner/model"):
        variants.train_variants({"hub": {"checkpoint": "owner/model"}}, asked, {})


def test_rows_of_released_sets(selection: Path, bases: Bases, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, mirror: Path | None) -> list[Example]:
        marks = [Scores(compliance=mark, relevancy=mark, accuracy=mark) for mark in (1, 5, 9, 10)]
        return [example(f"{name} asks {mark.mean}").model_copy(update={"score": mark}) for mark in marks]

    monkeypatch.setattr(variants.released, "load", load)
    pool = data(selection, bases, benign=0)
    assert len(pool.rows(Recipe(pool="SafeChain"), 0)) == 4
    medium = pool.rows(Recipe(pool="STAR-41K", marks=(3, 9.99)), 0)
    assert sorted(row.prompt for row in medium) == ["STAR-41K asks 5.0", "STAR-41K asks 9.0"]
    mixed = pool.rows(Recipe(pool="STAR-1", benign=2, benign_pool="STAR-benign-915"), 0)
    assert [row.kind for row in mixed].count("benign") == 2 and len(mixed) == 6
    with pytest.raises(UserError, match="no rows in this pool"):
        pool.rows(Recipe(pool="STAR-41K", marks=(2, 3)), 0)
