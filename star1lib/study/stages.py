"""The study as a list: one stage per notebook, one notebook per section of the paper.

`needs` names the stages whose files a stage reads. The make graph, the runner and the report all
read this list; it is the only place that knows the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from star1lib.errors import UserError

NOTEBOOKS = Path("notebooks")
PARAMS = Path("params")
BUILD = Path("build")


# From left to right: a package imports only what stands to its right, `training` only `collection` and `models`.
PACKAGES = ("study", "evaluation", "selection", "deliberation", "collection", "models")


@dataclass(frozen=True)
class Stage:
    """One stage: the name of its notebook and folder, its section in the paper, what it does, what it reads.

    `package` is the package of this library whose code computes the stage.
    """

    name: str
    section: str
    title: str
    package: str
    needs: tuple[str, ...] = ()

    @property
    def notebook(self) -> Path:
        """The committed notebook, relative to the repository."""
        return NOTEBOOKS / f"{self.name}.ipynb"

    @property
    def per_model(self) -> bool:
        """True for what a profile with several models does for each of them: 05 to 10."""
        return "05" <= self.name[:2] <= "10"

    @property
    def packages(self) -> tuple[str, ...]:
        """The stage's package and every package that it may import."""
        if self.package == "training":
            return ("training", "collection", "models")
        own = PACKAGES[PACKAGES.index(self.package) :]
        return (*own, "training") if self.package in ("study", "evaluation") else own


STAGES: tuple[Stage, ...] = (
    Stage("01_sources", "2.1", "Sources and provenance", "collection"),
    Stage("02_decontamination", "2.1", "Deduplication and decontamination", "collection", ("01_sources",)),
    Stage("03_deliberation", "2.2", "Deliberative reasoning over policies", "deliberation", ("02_decontamination",)),
    Stage("04_selection", "2.3", "Scoring and selection", "selection", ("03_deliberation",)),
    Stage("05_first", "3", "A model that thinks, and a first result", "evaluation", ("04_selection",)),
    Stage("05_sft", "3.1", "Supervised fine-tuning", "training", ("04_selection", "05_first")),
    Stage("06_safety", "3.2", "Safety", "evaluation", ("05_sft",)),
    Stage("07_reasoning", "3.2", "Reasoning", "evaluation", ("05_sft",)),
    Stage("08_data_quality", "4.1", "Data ablation: high against medium scores", "evaluation",
          ("04_selection", "06_safety")),
    Stage("09_thinking", "4.2", "With and without the thinking trace", "evaluation", ("06_safety", "07_reasoning")),
    Stage("10_over_refusal", "4.3", "Over-refusal and benign variants", "evaluation",
          ("04_selection", "06_safety", "07_reasoning")),
    Stage("11_figures", "1, 3, 4", "Figures and tables, ours beside the paper's", "study",
          ("02_decontamination", "04_selection", "08_data_quality", "09_thinking", "10_over_refusal")),
)  # fmt: skip
BY_NAME: dict[str, Stage] = {stage.name: stage for stage in STAGES}


def stage(name: str) -> Stage:
    """The stage called `name`; raises :class:`UserError` with the known names."""
    if name not in BY_NAME:
        raise UserError(f"stage '{name}': no such stage; the stages are {', '.join(BY_NAME)}.")
    return BY_NAME[name]


@dataclass(frozen=True)
class Step:
    """One stage in one build: the profile's own, or that of one of its models (`paper/R1-Distill-Qwen-1.5B`)."""

    build: str
    stage: Stage


def steps(profile: str, models: Sequence[str] = ()) -> list[Step]:
    """What there is to run, in order: with a list of models 05 to 10 once for each, the others once."""
    builds = [f"{profile}/{model}" for model in models]
    first, middle, last = STAGES[:4], [stage for stage in STAGES if stage.per_model], STAGES[-1]
    return [
        *(Step(profile, stage) for stage in first),
        *(Step(build, stage) for build in builds or [profile] for stage in middle),
        Step(profile, last),
    ]


def needs(step: Step, known: Sequence[Step]) -> list[Step]:
    """The steps among `known` that `step` reads: its own model's, for a stage over all those of every model."""
    read = [one for one in known if one.stage.name in step.stage.needs]
    return [one for one in read if one.build == step.build or step.stage.per_model != one.stage.per_model]
