"""Every figure of the study, drawn from tables that are already there (paper figures 1 to 5).

Drawing reads `build/<profile>/tables` and writes `build/<profile>/figures`; it computes nothing, so a
recoloured figure costs seconds. Captions name judges, stand-ins and numbers of questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star1lib.errors import UserError
from star1lib.files import atomic_path
from star1lib.study import figure_parts as parts
from star1lib.study import stages as study
from star1lib.study import tables

if TYPE_CHECKING:
    import pandas as pd

_INTERVALS = "Dots are rates, lines 95% Wilson intervals; undecided: the thinking was not closed within the budget."


@dataclass(frozen=True)
class Figure:
    """One figure: the tables it needs, how it is drawn from them, and what its caption says."""

    needs: tuple[str, ...]
    draw: Callable[[dict[str, pd.DataFrame]], Any]
    about: str


def _decontamination(data: dict[str, pd.DataFrame]) -> Any:
    frame = data["decontamination"].groupby("step", sort=False)[["before", "removed", "after"]].sum().reset_index()
    names = ["collected", *frame["step"]]
    values = [int(frame["before"].iloc[0]), *(int(value) for value in frame["after"])]
    figure, (axes,) = parts.canvas(7.6, 3.4)
    parts.bars(axes, names, values, parts.colour("star1"), "What each step leaves", "questions left")
    for index, removed in enumerate([0, *frame["removed"]]):
        if removed:
            axes.text(max(values) * 1.13, index, f"-{removed}", va="center", fontsize=8, color=parts.colour("medium"))
    axes.set_xlim(0, max(values) * 1.22)
    return figure


def _categories(data: dict[str, pd.DataFrame]) -> Any:
    frame = data["categories"]
    figure, (axes,) = parts.canvas(7.6, 3.4)
    parts.bars(axes, list(frame["category"]), list(frame["questions"]), parts.colour("star1"),
               "Questions per safety category", "questions (two categories count twice)")  # fmt: skip
    if frame["gold"].notna().any():
        axes.plot(frame["gold"], range(len(frame)), "D", mfc="white", mec=parts.INK, ms=5, label="gold tags")
        axes.legend(frameon=False, loc="lower right")
    return figure


def _scores(data: dict[str, pd.DataFrame]) -> Any:
    frame = data["scores"]
    criteria = list(dict.fromkeys(frame["criterion"]))
    figure, axes = parts.canvas(8.4, 2.8, len(criteria), sharey=True)
    kinds = list(dict.fromkeys(sorted(frame["kind"])))
    for panel, criterion in zip(axes, criteria, strict=True):
        for shift, kind in enumerate(kinds):
            rows = frame[(frame["criterion"] == criterion) & (frame["kind"] == kind)]
            tone = parts.colour("star1" if kind == "clean" else "medium")
            panel.bar(rows["score"] + 0.4 * shift - 0.2, rows["count"], width=0.4, color=tone, label=kind)
        panel.set_title(criterion)
        panel.set_xticks(range(0, 11, 2))
        panel.set_xlabel("score, 0 to 10")
    axes[0].set_ylabel("traces")
    axes[0].legend(frameon=False, loc="upper left")
    return figure


def _selection(data: dict[str, pd.DataFrame]) -> Any:
    frame = data["selection"]
    figure, (axes,) = parts.canvas(7.6, 3.4)
    parts.bars(axes, list(frame["category"]), list(frame["pool"]), parts.LIGHT, "Full marks, and what balance selects",
               "rows")  # fmt: skip
    axes.barh(range(len(frame)), frame["selected"], color=parts.colour("star1"), height=0.36, label="selected")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _balance(data: dict[str, pd.DataFrame]) -> Any:
    frame = data["balance"].sort_values("size")
    figure, (axes,) = parts.canvas(6.4, 3.0)
    for column, variant, name in (("source_entropy", "star1", "sources"), ("category_entropy", "medium", "categories")):
        axes.plot(frame["size"], frame[column], "o-", color=parts.colour(variant), label=name)
    chosen = frame[frame["which"] == "selected"]
    for size in chosen["size"]:
        axes.axvline(size, color=parts.GREY, ls=":", lw=1)
        axes.text(size, axes.get_ylim()[0], " selected", fontsize=8, color=parts.GREY, va="bottom")
    axes.set_xscale("log")
    axes.set_xticks(frame["size"], [f"{size:,}" for size in frame["size"]], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("rows left by balancing")
    axes.set_ylabel("entropy, bits")
    axes.set_title("Balance over sources and categories")
    axes.legend(frameon=False)
    return figure


def _losses(data: dict[str, pd.DataFrame]) -> Any:
    frame = data["losses"]
    figure, (axes,) = parts.canvas(6.8, 3.2)
    for arm, rows in frame.groupby("variant", sort=False):
        smooth = rows["loss"].ewm(span=5).mean()
        axes.plot(rows["epoch"], rows["loss"], color=parts.colour(str(arm)), alpha=0.25, lw=1)
        axes.plot(rows["epoch"], smooth, color=parts.colour(str(arm)), lw=2, label=parts.label(str(arm)))
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss on the answer, nats per token")
    axes.set_title("Training loss (thin: each step, thick: smoothed)")
    axes.legend(frameon=False)
    return figure


def _rates(table: str, title: str, xlabel: str) -> Callable[[dict[str, pd.DataFrame]], Any]:
    def draw(data: dict[str, pd.DataFrame]) -> Any:
        frame = data[table]
        figure, (axes,) = parts.canvas(7.6, 1.5 + 0.27 * len(frame))
        parts.intervals(axes, frame, title, xlabel)
        return figure

    return draw


_MAIN_ARMS = ("base", "star1", "star1_no_thinking", "star1_with_twins")


def _main(data: dict[str, pd.DataFrame]) -> Any:
    frame = data["main"]
    ours = frame[
        (frame["who"] == "ours") & frame["variant"].isin(["base", "star1", "star1_no_thinking", "star1_with_twins"])
    ]
    paper = frame[frame["who"] != "ours"]
    figure, axes = parts.canvas(10.2, 4.6, 2)
    panels = (
        ("Harmful prompts", ["safe", "refused"], "average safety", "% of responses"),
        ("Ability and over-refusal", ["correct", "answered"], "average reasoning", "% of questions"),
    )
    for panel, (title, metrics, printed, xlabel) in zip(axes, panels, strict=True):
        rows = ours[ours["metric"].isin(metrics) & ~ours["benchmark"].str.startswith("average")]
        rows = rows[rows["benchmark"] != "benign answered"].sort_values(["metric", "benchmark"], kind="stable")
        parts.intervals(panel, rows, title, xlabel)
        top = panel.get_ylim()[0]
        for variant, value in paper[paper["benchmark"] == printed][["variant", "value"]].itertuples(index=False):
            tone = parts.colour("base" if variant == "R1 Distilled" else "star1")
            if variant in ("R1 Distilled", "STAR-1"):
                panel.plot([100 * value], [top + 0.55], "D", mfc="white", mec=tone, mew=1.8, ms=7, clip_on=False)
        panel.set_ylim(top + 1.1, panel.get_ylim()[1])
        ticks = [*panel.get_yticks(), top + 0.55]
        names = [text.get_text() for text in panel.get_yticklabels()]
        panel.set_yticks(ticks, [*names, f"paper's\n{printed}"])
    return figure


def _pipeline(data: dict[str, pd.DataFrame]) -> Any:
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    steps, variants = data["decontamination"], data["variants"]
    scores, selection = data["scores"], data["selection"]
    first = steps[steps["step"] == steps["step"].iloc[0]]["before"].sum()
    last = steps[steps["step"] == steps["step"].iloc[-1]]["after"].sum()
    traces = scores[scores["criterion"] == scores["criterion"].iloc[0]]["count"].sum()
    boxes = (
        ("2.1 diversity", f"{first:,} questions\ncollected"),
        ("2.1 decontamination", f"{last:,} left after\nthree kinds of dedup"),
        ("2.2 deliberation", f"{traces:,} traces over\nwritten policies"),
        ("2.3 selection", f"{data['balance']['size'].max():,} with full marks,\n{_selected(data)} selected"),
        ("3.1 fine-tuning", f"{len(variants)} variants\ntrained"),
        ("3.2, 4 evaluation", f"{len(selection)} categories,\nsafety and reasoning"),
    )
    figure, (axes,) = parts.canvas(11, 1.9)
    for index, (head, body) in enumerate(boxes):
        axes.add_patch(FancyBboxPatch((index * 1.9, 0), 1.5, 1, boxstyle="round,pad=0.06", fc="#eef3f8", ec=parts.GREY))
        axes.text(index * 1.9 + 0.75, 0.8, head, ha="center", va="center", fontsize=8.6, weight="bold")
        axes.text(index * 1.9 + 0.75, 0.36, body, ha="center", va="center", fontsize=8.2)
        if index:
            arrow = FancyArrowPatch((index * 1.9 - 0.32, 0.5), (index * 1.9 - 0.07, 0.5), arrowstyle="-|>",
                                    mutation_scale=12, color=parts.INK)  # fmt: skip
            axes.add_patch(arrow)
    axes.set_xlim(-0.15, 11.15)
    axes.set_ylim(-0.15, 1.15)
    axes.axis("off")
    return figure


def _selected(data: dict[str, pd.DataFrame]) -> str:
    chosen = data["balance"]
    return f"{int(chosen[chosen['which'] == 'selected']['size'].max()):,}"


FIGURES: dict[str, Figure] = {
    "pipeline": Figure(
        ("decontamination", "scores", "selection", "balance", "variants"),
        _pipeline,
        "The pipeline with the counts of this run.",
    ),
    "decontamination": Figure(
        ("decontamination",), _decontamination, "Questions left after each step of deduplication and decontamination."
    ),
    "categories": Figure(("categories",), _categories, "Questions per category as tagged here."),
    "scores": Figure(("scores",), _scores, "Scores per criterion, of clean traces and of traces with a known flaw."),
    "selection": Figure(("selection",), _selection, "Rows with full marks and selected rows per category."),
    "balance": Figure(("balance",), _balance, "Entropy over sources and categories while rows are removed one by one."),
    "first": Figure(
        ("first",), _rates("first", "First result: base and anchored variant", "% of questions"), _INTERVALS
    ),
    "losses": Figure(("losses",), _losses, "Training loss of each arm."),
    "safety": Figure(("safety",), _rates("safety", "Harmful prompts before and after", "% of responses"), _INTERVALS),
    "reasoning": Figure(
        ("reasoning",), _rates("reasoning", "Reasoning before and after", "% answered correctly"), _INTERVALS
    ),
    "quality": Figure(("quality",), _rates("quality", "High against medium scores", "% of responses"), _INTERVALS),
    "thinking": Figure(
        ("thinking",), _rates("thinking", "With and without the thinking trace", "% of responses"), _INTERVALS
    ),
    "over_refusal": Figure(
        ("over_refusal",), _rates("over_refusal", "Benign twins in and out of training", "% of responses"), _INTERVALS
    ),
    "main": Figure(
        ("main",),
        _main,
        "Ours before and after training; diamonds: the paper's printed averages for another model, judge and "
        "question set (grey before, blue after). " + _INTERVALS,
    ),
}


def figure(name: str) -> Figure:
    """The figure called `name`; raises :class:`UserError` with the known names."""
    if name not in FIGURES:
        raise UserError(f"figure '{name}': not known; the figures are {', '.join(FIGURES)}.")
    return FIGURES[name]


def draw(name: str, out: str | Path) -> list[Path]:
    """Draw one figure as SVG and PNG; an empty list when a table of it is empty under this profile.

    Raises :class:`UserError` when a table is missing.
    """
    wanted = figure(name)
    data = {table: tables.read(out, table) for table in wanted.needs}
    if any(frame.empty for frame in data.values()):
        return []
    drawn = wanted.draw(data)
    paths = []
    for suffix, options in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 150})):
        path = Path(out) / "figures" / f"{name}{suffix}"
        with atomic_path(path, suffix) as temporary:
            drawn.savefig(temporary, **options)
        paths.append(path)
    return paths


def draw_all(profile: str, root: Path = Path()) -> list[Path]:
    """Draw every figure whose tables are there; computes nothing."""
    out = root / study.BUILD / profile
    if not tables.folder(out).is_dir():
        raise UserError(f"{out}: no tables to draw from; run `make reproduce PROFILE={profile}` first.")
    ready = [name for name, wanted in FIGURES.items() if all(tables.exists(out, table) for table in wanted.needs)]
    return [path for name in ready for path in draw(name, out)]


def show(name: str, out: str | Path) -> Any:
    """Draw a figure and show it in a notebook with its caption."""
    from IPython.display import Image, Markdown, display

    paths = draw(name, out)
    if not paths:
        return Markdown(f"*{name}: nothing to draw under this profile.*")
    text = caption(name, out)
    display(Image(str(paths[1]), alt=text))  # type: ignore[no-untyped-call]
    return Markdown(f"*{text}*")


def caption(name: str, out: str | Path) -> str:
    """What the figure shows, who judged, and who stands in for whom."""
    wanted = figure(name)
    text = wanted.about
    frame = tables.read(out, wanted.needs[0])
    if "judge" in frame.columns:
        judges = [judge for judge in dict.fromkeys(frame["judge"].dropna()) if judge != "as above"]
        text += f" Judged by: {', '.join(judges)}."
    if name in ("categories", "scores", "pipeline") and tables.exists(out, "roles"):
        roles = tables.read(out, "roles").dropna(subset=["stands_in_for"])
        stand_ins = [f"{row.played_by} for {row.stands_in_for} ({row.role})" for row in roles.itertuples()]
        text += f" Stand-ins: {'; '.join(stand_ins)}." if stand_ins else ""
    return text
