"""The plan: arithmetic checked against what is known, refusals that say what would fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from star1lib.errors import UserError
from star1lib.study import plan, profiles
from star1lib.training.sft import TrainConfig

PAPER = TrainConfig(gradient_checkpointing=True)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("R1-Distill-Qwen-1.5B", 1.777),
        ("R1-Distill-Qwen-7B", 7.616),
        ("R1-Distill-Llama-8B", 8.030),
        ("R1-Distill-Qwen-14B", 14.770),
        ("R1-Distill-Qwen-32B", 32.764),
        ("Qwen2.5-1.5B-Instruct", 1.544),
    ],
)
def test_shapes_give_the_published_numbers_of_weights(name: str, billions: float) -> None:
    assert plan.MODELS[name].parameters / 1e9 == pytest.approx(billions, rel=0.001)


def test_masters_and_adam_of_7b_are_about_112_gigabytes() -> None:
    states = plan.training_memory(plan.MODELS["R1-Distill-Qwen-7B"], PAPER, 1)["states"] * plan.GIB / 7.616e9 * 7e9
    assert states / 1e9 == pytest.approx(112, rel=0.01)


def test_more_cards_share_the_states_and_nothing_else() -> None:
    one, eight = (plan.training_memory(plan.MODELS["R1-Distill-Qwen-7B"], PAPER, n) for n in (1, 8))
    assert one["states"] == pytest.approx(8 * eight["states"]) and one["activations"] == eight["activations"]


def test_the_papers_profile_on_eight_cards_and_on_one(repository: Path) -> None:
    paper = profiles.load("paper", repository)
    found = {one.model: one for one in plan.of_profile(paper, plan.card("H100-80"), 8)}
    assert list(found) == list(plan.MODELS) == paper.chosen()
    assert found["R1-Distill-Qwen-7B"].fits == "yes"
    text = plan.table(list(found.values()), plan.card("H100-80"), 8, 2.5)
    assert "Assumed, not measured" in text and "USD at 2.5 an hour" in text
    plan.refuse(list(found.values()))
    with pytest.raises(UserError, match=r"R1-Distill-Qwen-32B does not fit .*; 8 cards would do"):
        plan.refuse(plan.of_profile(paper, plan.card("H100-80"), 4))
    [one] = plan.of_profile(paper, plan.card("H100-80"), 8, ["R1-Distill-Qwen-14B"])
    assert one == found["R1-Distill-Qwen-14B"]
    [small] = plan.of_profile(paper, plan.card("RTX4090-24"), 1, ["deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"])
    assert small.fits.startswith("no: ")


def test_counts_come_from_the_profile(repository: Path) -> None:
    work = plan.work_of(profiles.load("paper", repository).of("R1-Distill-Qwen-1.5B"), PAPER)
    assert (work.variants, work.released) == (9, 2) and work.prompts > 12_032
    mini = profiles.load("mini", repository)
    assert plan.work_of(mini, TrainConfig()).prompts < 600


def test_a_tiny_folder_has_a_size_and_an_unknown_model_a_sentence(tiny: Path, repository: Path) -> None:
    mini = profiles.load("mini", repository)
    [found] = plan.of_profile(mini, plan.card("A100-80"), 1, [str(tiny)])
    assert found.fits == "yes" and found.parameters > 0
    with pytest.raises(UserError, match="is not known; known are"):
        plan.of_profile(mini, plan.card("A100-80"), 1, ["nobody/nothing"])
    with pytest.raises(UserError, match="choose one of"):
        plan.card("H1000")
