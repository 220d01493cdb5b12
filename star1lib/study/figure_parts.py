"""Shared drawing: colours of variants, dots with intervals, and pictures that come out the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

GREY = "#7a8594"
INK = "#1d2733"
LIGHT = "#dfe5eb"
_ACCENTS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_KNOWN = {
    "base": GREY,
    "star1": _ACCENTS[0],
    "star1_no_thinking": _ACCENTS[1],
    "star1_with_twins": _ACCENTS[2],
    "star1_anchored": _ACCENTS[5],
    "high": _ACCENTS[3],
    "medium": _ACCENTS[4],
}
LABELS = {
    "base": "base model",
    "star1": "trained, with thinking",
    "star1_no_thinking": "trained, without thinking",
    "star1_with_twins": "trained, with benign twins",
    "star1_anchored": "trained, with own benign answers",
    "plain": "plain model",
    "high": "high-scored rows",
    "medium": "medium-scored rows",
}


def colour(variant: str) -> str:
    """The colour of an arm, the same in every picture (colour-blind safe)."""
    return _KNOWN.get(variant, _ACCENTS[sum(map(ord, variant)) % len(_ACCENTS)])


def label(variant: str) -> str:
    """The arm as a reader would call it."""
    return LABELS.get(variant, variant.replace("_", " "))


def canvas(width: float, height: float, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure with plain axes; text becomes paths and no date is stored, so equal tables give equal bytes."""
    import matplotlib as mpl

    mpl.use("Agg", force=False)
    mpl.rcParams.update(
        {
            "svg.hashsalt": "star1",
            "svg.fonttype": "path",
            "font.size": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#9aa5b1",
            "axes.labelcolor": INK,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
        }
    )
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False, **options)[0]


def intervals(axes: Any, frame: pd.DataFrame, title: str, xlabel: str) -> None:
    """Rates as dots with 95% intervals: a band per benchmark, a row per arm, n and undecided at the right."""
    variants = list(dict.fromkeys(frame["variant"]))
    groups = list(dict.fromkeys(zip(frame["benchmark"], frame["metric"], strict=True)))
    position, ticks, names = 0.0, [], []
    for benchmark, metric in groups:
        rows = frame[(frame["benchmark"] == benchmark) & (frame["metric"] == metric)]
        start = position
        for variant in variants:
            for row in rows[rows["variant"] == variant].to_dict("records"):
                _dot(axes, row, position)
                position += 1
        ticks.append((start + position - 1) / 2)
        names.append(f"{benchmark}\n{metric}")
        axes.axhspan(start - 0.6, position - 0.4, color="#f6f8fa", zorder=0)
        position += 0.8
    axes.set_yticks(ticks, names)
    axes.set_ylim(position - 0.6, -0.8)
    axes.set_xlim(-2, 134)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel(xlabel)
    axes.set_title(title)
    axes.tick_params(axis="y", length=0)
    legend(axes, variants)


def _dot(axes: Any, row: dict[Any, Any], position: float) -> None:
    n, undecided = int(row["n"]), int(row.get("undecided", 0) or 0)
    note = f"n={n}" + (f", {undecided} undecided" if undecided else "")
    axes.text(104, position, note, va="center", fontsize=7.5, color=GREY, clip_on=False)
    if n == 0:
        return
    tone = colour(row["variant"])
    axes.plot([100 * row["low"], 100 * row["high"]], [position] * 2, color=tone, lw=2, alpha=0.55, zorder=2)
    axes.plot([100 * row["value"]], [position], "o", color=tone, ms=6, zorder=3)


def legend(axes: Any, variants: Sequence[str]) -> None:
    """The variants' colours above the axes."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour(name), marker="o", lw=2, label=label(name)) for name in variants]
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, -0.13), ncols=2, frameon=False, fontsize=8.5,
        borderaxespad=0,
    )  # fmt: skip


def bars(axes: Any, names: Sequence[str], values: Sequence[float], tone: str, title: str, xlabel: str) -> None:
    """Horizontal bars of counts with the count written at the end."""
    axes.barh(range(len(names)), values, color=tone, height=0.62)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    for index, value in enumerate(values):
        axes.text(value, index, f" {value:g}", va="center", fontsize=8)
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
