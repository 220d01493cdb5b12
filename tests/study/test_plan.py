"""The plan: arithmetic checked against what is known, refusals that say what would fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from star1lib.errors import UserError
from star1lib.study import plan, profiles
from star1lib.training.sft import TrainConfig

PAPER = TrainConfig(gradient_checkpointing=True, launch="params/accelerate/fsdp2.yaml")


@pytest.mark.parametrize(
    ("name", "billions"),
    [("R1-Distill-Qwen-1.5B", 1.777), ("R1-Distill-Qwen-7B", 7.616), ("R1-Distill-Llama-8B", 8.030),
     ("R1-Distill-Qwen-14B", 14.770), ("R1-Distill-Qwen-32B", 32.764), ("Qwen2.5-1.5B-Instruct", 1.544)],
)  # fmt: skip
def test_shapes_give_the_published_numbers_of_weights(name: str, billions: float) -> None:
    assert plan.MODELS[name].parameters / 1e9 == pytest.approx(billions, rel=0.001)


def test_masters_and_adam_of_7b_are_about_112_gigabytes() -> None:
    parts = plan.training_memory(plan.MODELS["R1-Distill-Qwen-7B"], PAPER, 1)
    gb = {name: parts[name] * plan.GIB / 7.616e9 * 7 for name in plan.STATES}
    assert gb == {name: pytest.approx(size, rel=0.01) for name, size in
                  {"weights": 28, "gradients": 28, "optimizer": 56}.items()}  # fmt: skip


def test_more_cards_share_the_states_and_nothing_else() -> None:
    one, eight = (plan.training_memory(plan.MODELS["R1-Distill-Qwen-7B"], PAPER, n) for n in (1, 8))
    assert all(one[name] == pytest.approx(8 * eight[name]) for name in plan.STATES)
    assert eight["activations"] > one["activations"], "a layer is gathered"
    alone = PAPER.model_copy(update={"launch": None})
    assert plan.training_memory(plan.MODELS["R1-Distill-Qwen-7B"], alone, 8) == one, "without a launch one card trains"


def test_the_papers_profile_on_eight_cards_and_on_one(repository: Path) -> None:
    paper = profiles.load("paper", repository)
    found = {one["model"]: one for one in plan.of_profile(paper, plan.card("H100-80"), 8)}
    assert list(found) == list(plan.MODELS) == paper.chosen()
    assert found["R1-Distill-Qwen-7B"]["fits"] == "yes"
    text = plan.table(list(found.values()), plan.card("H100-80"), 8, 2.5)
    assert "Assumed, not measured" in text and "USD at 2.5 an hour" in text
    plan.refuse(list(found.values()))
    for part in ("weights", "gradients", "optimizer", "activations", "tokens trained", "tokens generated", "disk"):
        assert part in text
    usual = plan.table(list(found.values()), plan.card("H100-80"), 8)
    assert "USD at 2.5 an hour (assumed, USD= gives yours)" in usual
    with pytest.raises(UserError, match=r"R1-Distill-Qwen-32B does not fit .*; 8 cards would do"):
        plan.refuse(plan.of_profile(paper, plan.card("H100-80"), 4))
    [one] = plan.of_profile(paper, plan.card("H100-80"), 8, ["R1-Distill-Qwen-14B"])
    assert one == found["R1-Distill-Qwen-14B"]
    [small] = plan.of_profile(paper, plan.card("RTX4090-24"), 1, ["deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"])
    assert small["fits"].startswith("no: ")


def test_counts_come_from_the_profile(repository: Path) -> None:
    work = plan.work_of(profiles.load("paper", repository).of("R1-Distill-Qwen-1.5B"), PAPER)
    assert (work.variants, work.released) == (9, 2) and work.prompts > 12_032
    mini = profiles.load("mini", repository)
    assert plan.work_of(mini, TrainConfig()).prompts < 600


def test_a_tiny_folder_has_a_size_and_an_unknown_model_a_sentence(tiny: Path, repository: Path) -> None:
    mini = profiles.load("mini", repository)
    [found] = plan.of_profile(mini, plan.card("A100-80"), 1, [str(tiny)])
    assert found["fits"] == "yes" and found["parameters"] > 0
    with pytest.raises(UserError, match="is not known; known are"):
        plan.of_profile(mini, plan.card("A100-80"), 1, ["nobody/nothing"])
    with pytest.raises(UserError, match="choose one of"):
        plan.card("H1000")


@pytest.mark.parametrize(
    ("gpu", "gpus", "model", "sentence"),
    [
        ("H100-80", 0, "R1-Distill-Qwen-7B", "plan: 0 GPUs; name one or more"),
        ("H100-80", -3, "R1-Distill-Qwen-7B", "plan: -3 GPUs"),
        ("H100-80", 1, "R1-Distill-Qwen-32B", r"serving needs 2 cards; 8 cards would do"),
        ("H100-80", 1, "R1-Distill-Qwen-7B", r"training needs \d+ GiB a card, 74 are there; 2 cards would do"),
        ("H100-80", 3, "R1-Distill-Qwen-7B", "a batch of 128 is not shared out evenly over 3 cards; 4 cards would do"),
        ("RTX4090-24", 1, "R1-Distill-Qwen-32B", r"serving needs 4 cards; (\d+ cards would do|lower micro_batch_size)"),
        ("H100-80", 8, "R1-Distil-Qwen-7B", r"no model 'R1-Distil-Qwen-7B'; did you mean 'R1-Distill-Qwen-7B'"),
    ],
)
def test_what_cannot_fit_or_be_meant_says_what_would(
    gpu: str, gpus: int, model: str, sentence: str, repository: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        plan.refuse(plan.of_profile(profiles.load("paper", repository), plan.card(gpu), gpus, [model]))


def test_a_price_below_nothing_and_one_card_without_a_launch(repository: Path) -> None:
    paper = profiles.load("paper", repository)
    plans = plan.of_profile(paper, plan.card("H100-80"), 8, ["R1-Distill-Qwen-7B"])
    with pytest.raises(UserError, match="-1 USD for an hour"):
        plan.table(plans, plan.card("H100-80"), 8, -1)
    alone = PAPER.model_copy(update={"launch": None})
    work = plan.work_of(paper.of("R1-Distill-Qwen-7B"), alone)
    found = plan.plan("R1-Distill-Qwen-7B", plan.card("H100-80"), 8, alone, work)
    assert "share it out, training.launch" in found["fits"]
