"""Every picture of the study: the paper's printed numbers, and ours beside them (paper figures 1 to 5, tables 1 to 3).

Drawing reads `build/<profile>/tables` and the printed tables, writes `build/<profile>/figures` and computes nothing, so
a recoloured picture costs seconds. Each picture knows its section of the report and the tables that belong to it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star1lib.errors import UserError, plain
from star1lib.evaluation.seeds import recipe_of
from star1lib.files import atomic_path, write_text
from star1lib.study import claims, compare, stages, tables
from star1lib.study.display import readable

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
Data = Mapping[str, "pd.DataFrame"]
# The metadata that would make two drawings of one table differ.
_FORMATS: dict[str, dict[str, Any]] = {
    ".svg": {"metadata": {"Date": None}},
    ".png": {"dpi": 150},
    ".pdf": {"metadata": {"CreationDate": None}},
}
_STYLE: Any = {
    "svg.hashsalt": "star1",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
GREY, BLUE, ORANGE = "#7a8594", "#0173b2", "#de8f05"
_INTERVALS = "Dots are rates, lines 95% Wilson intervals; undecided: the thinking was not closed within the budget."
_AVERAGES = ("average safety", "average reasoning")
_VARIANT_TABLES = ("safety", "quality", "over_refusal")
_OF_RESPONSES = "% of responses"


@dataclass(frozen=True)
class Figure:
    """One picture: its section in the report, what its caption says, how it is drawn, and from which tables.

    Without a table of `needs` it is not drawn; tables of `beside` are added where they are there; `shows` are the
    tables that the report sets below it. `text` is the picture as a table, for Markdown and LaTeX.
    """

    section: str
    about: str
    draw: Callable[[Data], Any]
    needs: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    text: Callable[[Data], pd.DataFrame] | None = None


def _canvas(width: float, height: float, columns: int = 1, rows: int = 1, **options: Any) -> tuple[Any, Any]:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), layout="constrained")
    return canvas, canvas.subplots(rows, columns, squeeze=False, **options).ravel()


def _palette(data: Data) -> dict[str, Any]:
    """A colour for each variant of the run, the same in every picture and safe for colour-blind readers; base grey.

    Seeds of a recipe share one; an eleventh trained recipe begins again with the first one's.
    """
    import seaborn as sns

    frames = [data[name] for name in (*_VARIANT_TABLES, *data) if name in data and "variant" in data[name]]
    names = list(dict.fromkeys(str(name) for frame in frames for name in frame["variant"]))
    recipes = list(dict.fromkeys(map(recipe_of, names)))
    colours = dict(zip(recipes, [GREY, *sns.color_palette("colorblind", len(recipes))], strict=False))
    return {name: colours[recipe_of(name)] for name in names}


def _bars(axes: Any, frame: pd.DataFrame, value: str, name: str, title: str, xlabel: str, **options: Any) -> None:
    """Horizontal bars with the number at the end of each."""
    import seaborn as sns

    sns.barplot(frame, x=value, y=name, ax=axes, **({"color": BLUE, "width": 0.65} | options))
    for bars in axes.containers[-1:]:
        axes.bar_label(bars, fmt="{:,.4g}", padding=3, fontsize=8)
    axes.set(title=title, xlabel=xlabel, ylabel="")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)


def _paper(number: int) -> pd.DataFrame:
    """A printed table, rates in points."""
    import pandas as pd

    frame = pd.DataFrame([row for row in compare.paper_rows() if row["table"] == number])
    return frame.assign(value=100 * frame["value"])


def _gain(data: Data) -> Any:
    """Paper figure 1: what training adds, against the model before and against the Instruct model, by size."""
    import pandas as pd
    import seaborn as sns

    printed = _paper(1).pivot(index=["billions", "model", "benchmark"], columns="role", values="value")
    ours = data.get("claims_by_model", pd.DataFrame(columns=["models", "ours", "metric"]))
    names = list(dict.fromkeys([*ours["models"], *printed.index.get_level_values("model")]))
    canvas, panels = _canvas(11, 3.6, 2)
    for axes, benchmark, metric in zip(panels, _AVERAGES, ("safe", "correct"), strict=True):
        part = printed.xs(benchmark, level="benchmark").reset_index()
        bars = pd.concat([part.assign(against=f"against {label}", points=part["star1"] - part[role], order=role)
                          for role, label in (("base", "the model before"), ("instruct", "Instruct"))])  # fmt: skip
        sns.barplot(bars, x="model", y="points", hue="against", order=names, palette=[BLUE, ORANGE], ax=axes)
        for shift, role in ((-0.2, "base"), (0.2, "instruct")):
            mine = ours[(ours["ours"] == f"star1 - {role}") & (ours["metric"] == metric)]
            for row in mine.drop_duplicates("models").to_dict("records"):
                ends = [[100 * (row["difference"] - row["low"])], [100 * (row["high"] - row["difference"])]]
                axes.errorbar(names.index(row["models"]) + shift, 100 * row["difference"], yerr=ends, fmt="D", ms=6,
                              mfc="white", color="black")  # fmt: skip
        axes.axhline(0, color=GREY, lw=0.8)
        axes.set(title=benchmark.removeprefix("average ").capitalize(), xlabel="", ylabel="gain, points")
        axes.set_xticks(range(len(names)), [name.removeprefix("R1-Distill-") for name in names])
        axes.legend(title="")
    panels[1].get_legend().remove()
    return canvas


def _paper_table(number: int, data: Data) -> pd.DataFrame:
    """A printed table in long form (model, variant, benchmark, value, low, high), our rates on its columns below."""
    import pandas as pd

    columns = ["model", "variant", "benchmark", "value", "low", "high"]
    printed = _paper(number).rename(columns={"label": "variant"}).reindex(columns=columns)
    ours = data.get("main")
    if ours is None:
        return printed
    mine = ours[(ours["who"] == "ours") & ours["benchmark"].isin(printed["benchmark"])
                & ours["metric"].isin(["safe", "correct"])]  # fmt: skip
    rates = mine[["value", "low", "high"]] * 100
    return pd.concat([printed, mine[["variant", "benchmark"]].join(rates).assign(model="ours")])


def _wide(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """One row per model and variant, one column per benchmark, all in the order of the table."""
    wide = frame.pivot(index=["model", "variant"], columns="benchmark", values=value)
    rows = frame[["model", "variant"]].drop_duplicates().itertuples(index=False, name=None)
    return wide.loc[list(rows), list(dict.fromkeys(frame["benchmark"]))]


def _heatmap(number: int, data: Data) -> Any:
    import seaborn as sns

    wide = _wide(_paper_table(number, data), "value")
    canvas, (axes,) = _canvas(2.6 + 0.8 * wide.shape[1], 1.4 + 0.27 * len(wide))
    labels = [f"{model} · {variant}" for model, variant in wide.index]
    sns.heatmap(wide, ax=axes, annot=True, fmt=".1f", cmap="cividis", vmin=0, vmax=100, cbar=False, linewidths=0.5,
                yticklabels=labels, annot_kws={"size": 8})  # fmt: skip
    axes.set(title=f"Table {number}: %, printed" + (" and ours" if "main" in data else ""), xlabel="", ylabel="")
    axes.set_xticks(axes.get_xticks(), [name.replace(" ", "\n").replace("-", "-\n", 1) for name in wide.columns],
                    rotation=0, fontsize=8)  # fmt: skip
    return canvas


def _table_text(number: int, data: Data) -> pd.DataFrame:
    frame = _paper_table(number, data)
    cells = ["" if value != value else f"{value:.1f}" + ("" if low != low else f" [{low:.0f}, {high:.0f}]")
             for value, low, high in frame[["value", "low", "high"]].itertuples(index=False)]  # fmt: skip
    return _wide(frame.assign(cell=cells), "cell").fillna("").reset_index().rename_axis(columns=None)


def _tradeoff(data: Data) -> Any:
    """Harmful prompts against benign ones, a dot a variant: a model that refuses everything stands at the left."""
    wide = data["averages"].set_index(["variant", "metric"])[["value", "low", "high"]]
    colours, (canvas, panels) = _palette(data), _canvas(10.2, 4.2, 2, sharex=True, sharey=True)
    recipes = dict.fromkeys(map(recipe_of, colours))
    marks = {recipe: "osD"[max(place - 1, 0) // 10 % 3] for place, recipe in enumerate(recipes)}
    handles: dict[str, Any] = {}
    seeds: dict[str, list[str]] = {}
    for variant in dict.fromkeys(data["averages"]["variant"]):
        recipe = recipe_of(variant)
        for axes, metric in zip(panels, ("safe", "refused"), strict=True):
            if {(variant, metric), (variant, "answered")} <= set(wide.index):
                x, y = (100 * wide.loc[(variant, part)].to_numpy(float) for part in ("answered", metric))
                handles[recipe] = axes.errorbar(
                    x[0], y[0], xerr=[[x[0] - x[1]], [x[2] - x[0]]], yerr=[[y[0] - y[1]], [y[2] - y[0]]],
                    fmt=marks[recipe], capsize=2, ms=7, color=colours[variant]
                )  # fmt: skip
        seeds.setdefault(recipe, []).append(variant)
    for axes, name in zip(panels, ("harmless", "refused"), strict=True):
        axes.set(title=f"Harmful prompts {name}", xlabel="benign prompts answered, %", ylabel=f"{name}, %",
                 xlim=(-4, 104), ylim=(-4, 104))  # fmt: skip
    for row in data["main"].to_dict("records") if "main" in data else ():
        if row["benchmark"] == "average safety" and row["who"] != "ours":
            panels[0].axhline(100 * row["value"], color=GREY, lw=0.8, ls=":", zorder=0)
            panels[0].text(-3, 100 * row["value"], f"paper: {row['variant']}", fontsize=7, color=GREY, va="bottom")
    labels = [_of_seeds(recipe, seeds[recipe], wide["value"]) for recipe in handles]
    canvas.legend(handles.values(), labels, loc="outside lower center",
                  ncols=3 if max(map(len, labels), default=0) <= 40 else 2)  # fmt: skip
    return canvas


def _of_seeds(recipe: str, variants: Sequence[str], rates: pd.Series) -> str:
    """A recipe in the legend: its seeds, what they reason, and which of their rates are undecided."""
    able = [rate for name in variants if not math.isnan(rate := rates.get((name, "correct"), math.nan))]
    open_ = [part for part in ("answered", "safe", "refused")
             if any(math.isnan(rates.get((name, part), 0.0)) for name in variants)]  # fmt: skip
    said = [f"{len(variants)} seeds"] * (len(variants) > 1)
    said += [f"reasoning {', '.join(f'{100 * rate:.0f}' for rate in able)}%"] * bool(able)
    text = recipe.replace("_", " ") + (f" ({'; '.join(said)})" if said else "")
    return f"{text}, {'all' if len(open_) == 3 else ', '.join(open_)} undecided" if open_ else text


def _claims(data: Data) -> Any:
    """Our difference of every claim that was measured, the printed one beside it, and the verdict."""
    frame = data["claims"][data["claims"]["n"] > 0].iloc[::-1]
    canvas, (axes,) = _canvas(10.2, 1.2 + 0.34 * len(frame))
    for place, row in enumerate(frame.to_dict("records")):
        axes.plot([100 * row["low"], 100 * row["high"]], [place] * 2, color=BLUE, lw=2, alpha=0.6)
        axes.plot(100 * row["difference"], place, "o", color=BLUE, label="ours")
        axes.plot(100 * row["printed"], place, "D", mfc="white", mec=ORANGE, mew=1.8, label="printed")
        axes.text(1.01, place, row["verdict"], transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
    axes.set_yticks(range(len(frame)), [f"{row.claim} ({row.number})" for row in frame.itertuples()])
    axes.axvline(0, color=GREY, lw=0.8)
    axes.set(title="The claims that this run measures", xlabel="difference, points")
    canvas.legend(*(part[:2] for part in axes.get_legend_handles_labels()), loc="outside lower center", ncols=2)
    return canvas


def _claims_text(data: Data) -> pd.DataFrame:
    return readable(data["claims"])[["number", "claim", "ours", "printed", "difference", "n", "verdict", "note"]]


def _pipeline(data: Data) -> Any:
    """The paper's figure 2 in one line, with its counts and those of this run."""
    printed = next(claim for claim in claims.load().claims if claim.rule == "counts").printed["counts"]
    ours = compare.counts(data)
    boxes = (("2.1 diversity", "collected", "questions"), ("2.1 decontamination", "decontaminated", "questions"),
             ("2.2 deliberation", "categories", "categories"), ("2.3 selection", "selected", "rows"))  # fmt: skip
    canvas, (axes,) = _canvas(11, 1.7)
    for place, (head, name, unit) in enumerate(boxes):
        mine = f"\nhere: {ours[name]:,}" if name in ours else ""
        axes.annotate(f"{head}\npaper: {printed[name]:,.0f} {unit}{mine}", (place, 0), ha="center", va="center",
                      bbox={"boxstyle": "round,pad=0.7", "fc": "#eef3f8", "ec": GREY})  # fmt: skip
        if place:
            axes.annotate("", (place - 0.36, 0), (place - 0.64, 0), arrowprops={"arrowstyle": "-|>"})
    axes.set(xlim=(-0.5, len(boxes) - 0.5), ylim=(-1, 1))
    axes.axis("off")
    return canvas


def _decontamination(data: Data) -> Any:
    import pandas as pd

    steps = data["decontamination"].groupby("step", sort=False)[["before", "after"]].sum().reset_index()
    first = pd.DataFrame([{"step": "collected", "after": steps["before"].iloc[0]}])
    canvas, (axes,) = _canvas(7.6, 3.4)
    _bars(axes, pd.concat([first, steps]), "after", "step", "What each step leaves", "questions left")
    return canvas


def _categories(data: Data) -> Any:
    frame = data["categories"]
    canvas, (axes,) = _canvas(7.6, 3.4)
    _bars(axes, frame, "questions", "category", "Questions per safety category",
          "questions (two categories count twice)")  # fmt: skip
    if frame["gold"].notna().any():
        axes.plot(frame["gold"], range(len(frame)), "D", mfc="white", mec="black", ms=5, label="gold tags")
        axes.legend(loc="lower right")
    return canvas


def _scores(data: Data) -> Any:
    import seaborn as sns

    frame = data["scores"]
    criteria, kinds = list(dict.fromkeys(frame["criterion"])), sorted(set(frame["kind"]))
    canvas, panels = _canvas(8.4, 2.8, len(criteria), sharey=True)
    for axes, criterion in zip(panels, criteria, strict=True):
        sns.barplot(frame[frame["criterion"] == criterion], x="score", y="count", hue="kind", order=range(11),
                    hue_order=kinds, palette=[BLUE, ORANGE][: len(kinds)], ax=axes)  # fmt: skip
        axes.set(title=criterion, xlabel="score, 0 to 10", ylabel="traces")
        axes.get_legend().set_title("")
    return canvas


def _selection(data: Data) -> Any:
    frame = data["selection"]
    canvas, (axes,) = _canvas(7.6, 3.4)
    _bars(axes, frame, "pool", "category", "", "", color="#dfe5eb", label="full marks")
    _bars(axes, frame, "selected", "category", "Full marks, and what balance selects", "rows", width=0.36,
          label="selected")  # fmt: skip
    axes.legend(loc="lower right")
    return canvas


def _shares(data: Data) -> Any:
    frame = data["shares"]
    frame = frame.assign(points=100 * frame["share"])
    canvas, panels = _canvas(11, 4, 2)
    for axes, kind in zip(panels, ("category", "source"), strict=True):
        _bars(axes, frame[frame["kind"] == kind].head(18), "points", "name", f"Selected rows by {kind}", "% of rows")
    return canvas


def _balance(data: Data) -> Any:
    import seaborn as sns

    frame = data["balance"].sort_values("size")
    long = frame.rename(columns={"source_entropy": "sources", "category_entropy": "categories"}).melt(
        ["size", "which"], ["sources", "categories"], var_name="over", value_name="entropy"
    )
    canvas, (axes,) = _canvas(6.4, 3.0)
    sns.lineplot(long, x="size", y="entropy", hue="over", marker="o", palette=[BLUE, ORANGE], ax=axes)
    for size in frame.loc[frame["which"] == "selected", "size"]:
        axes.axvline(size, color=GREY, ls=":", lw=1)
        axes.text(size, axes.get_ylim()[0], f" {size:,} selected", fontsize=8, color=GREY, va="bottom")
    axes.set(xscale="log", title="Balance over sources and categories", xlabel="rows left by balancing",
             ylabel="entropy, bits")  # fmt: skip
    ticks = frame.loc[frame["which"] != "selected", "size"]
    axes.set_xticks(ticks, [f"{size:,}" for size in ticks])
    axes.set_xticks([], minor=True)
    return canvas


def _losses(data: Data) -> Any:
    import seaborn as sns

    frame, colours = data["losses"], _palette(data)
    canvas, (axes,) = _canvas(8.4, 3.2)
    smooth = frame.assign(loss=frame.groupby("variant")["loss"].transform(lambda loss: loss.ewm(span=5).mean()))
    shared: dict[str, Any] = {"x": "epoch", "y": "loss", "hue": "variant", "palette": colours, "ax": axes}
    sns.lineplot(frame, alpha=0.25, lw=1, legend=False, **shared)
    sns.lineplot(smooth, lw=2, **shared)
    axes.set(title="Training loss (thin: each step, thick: smoothed)", ylabel="loss on the answer, nats per token")
    sns.move_legend(axes, "upper left", bbox_to_anchor=(1, 1), title="")
    return canvas


def _rates(table: str, xlabel: str, data: Data) -> Any:
    """Rates with their intervals, a panel per benchmark and metric, a row per variant; n and undecided at the right."""
    import seaborn.objects as so
    from matplotlib.figure import Figure as Canvas

    frame = data[table]
    undecided = frame["undecided"].fillna(0).astype(int)
    notes = [f"n={n}" + (f", {left} undecided" if left else "") for n, left in zip(frame["n"], undecided, strict=True)]
    shown = frame.assign(
        panel=frame["benchmark"] + ", " + frame["metric"], note=notes, edge=103.0, variant=frame["variant"].astype(str),
        **{column: 100 * frame[column].where(frame["n"] > 0) for column in ("value", "low", "high")},
    )  # fmt: skip
    panels, columns = shown["panel"].nunique(), min(3, shown["panel"].nunique())
    rows, most = math.ceil(panels / columns), shown.groupby("panel")["variant"].nunique().max()
    canvas = Canvas(figsize=(1.6 + 3.3 * columns, rows * (0.85 + 0.27 * most)), layout="constrained")
    (
        so.Plot(shown, x="value", y="variant", color="variant")
        .facet("panel", order=list(dict.fromkeys(shown["panel"])), wrap=columns)
        .add(so.Range(linewidth=2, alpha=0.6), xmin="low", xmax="high", legend=False, orient="y")
        .add(so.Dot(pointsize=6), legend=False)
        .add(so.Text(halign="left", fontsize=7.5, color=GREY), x="edge", text="note", legend=False)
        .scale(color=_palette(data), x=so.Continuous().tick(at=range(0, 101, 25)))
        .limit(x=(-3, 175))
        .label(x=xlabel, y="")
        .theme({**_STYLE, "axes.facecolor": "white", "axes.edgecolor": GREY, "axes.linewidth": 0.8})
        .on(canvas)
        .plot()
    )
    return canvas


_DOSES = {"share": "benign rows, % of all", "rows": "different rows, equal steps",
          "long": "different rows, many equal steps", "steps": "steps", "stop": "stopped early, after steps",
          "rate": "learning rate", "rank": "LoRA rank"}  # fmt: skip


def _dose(data: Data) -> Any:
    """What a recipe does by its dose: a panel per sweep, a line per rate with its intervals."""
    import seaborn as sns

    frame = data["dose"][data["dose"]["metric"] != "safe"].sort_values("dose")
    lines = frame.groupby(["benchmark", "metric"], sort=False)
    sweeps = [sweep for sweep in dict.fromkeys([*_DOSES, *frame["sweep"]]) if sweep in set(frame["sweep"])]
    colours = sns.color_palette("colorblind", len(lines))
    rows = -(-len(sweeps) // 4)
    columns = -(-len(sweeps) // rows)
    canvas, panels = _canvas(3.0 * columns, 1.0 + 3.0 * rows, columns, rows, sharey=True)
    for axes in panels[len(sweeps) :]:
        axes.set_axis_off()
    for axes, sweep in zip(panels, sweeps, strict=False):
        doses = list(dict.fromkeys(frame.loc[frame["sweep"] == sweep, "dose"]))
        for number, ((benchmark, metric), line) in enumerate(lines):
            mine = line[line["sweep"] == sweep]
            mean, beside = 100 * mine["value"], 0.015 * (len(doses) - 1) * number
            axes.errorbar([doses.index(dose) + beside for dose in mine["dose"]], mean, marker="o", lw=1.8, elinewidth=1,
                          yerr=[mean - 100 * mine["low"], 100 * mine["high"] - mean], label=f"{benchmark}, {metric}",
                          color=colours[number])  # fmt: skip
        axes.set_xticks(range(len(doses)), [f"{dose:g}" for dose in doses])
        axes.set(xlabel=_DOSES.get(sweep, sweep), ylim=(-3, 103))
    for axes in panels[::columns]:
        axes.set_ylabel(_OF_RESPONSES)
    canvas.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return canvas


def _of_rates(section: str, table: str, xlabel: str, *shows: str) -> Figure:
    beside = (*_VARIANT_TABLES, "averages")
    return Figure(section, _INTERVALS, partial(_rates, table, xlabel), (table,), beside, (table, *shows))


def _of_paper(number: int, about: str) -> Figure:
    about += " Rows called ours: this run, by its own judges and questions; its averages are over what was asked."
    draw, text = partial(_heatmap, number), partial(_table_text, number)
    return Figure("Beside the paper", about, draw, beside=("main",), text=text)


_DATA = "Data: sources, decontamination, selection"
FIGURES: dict[str, Figure] = {
    "tradeoff": Figure(
        "Result", "Harmful prompts against benign ones, averages over benchmarks with 95% intervals; dotted: the "
        "printed averages of another model and judge.", _tradeoff, ("averages",), (*_VARIANT_TABLES, "main"),
        ("over_seeds", "summary", "averages", "printed", "main")),
    "claims": Figure(
        "Claims", "The paper's claims: our difference with its 95% interval, and the printed one (diamond).", _claims,
        ("claims",), (), ("claims", "claims_by_model"), _claims_text),
    "gain": Figure(
        "Beside the paper", "Printed gains in points (bars) and ours (diamonds, 95% intervals).", _gain,
        beside=("claims_by_model",)),
    "table1": _of_paper(1, "The printed main table: safety by Llama-Guard-3, and reasoning."),
    "table2": _of_paper(2, "The printed table on data quality."),
    "table3": _of_paper(3, "The printed table on training with and without the thinking trace."),
    "pipeline": Figure(
        "The pipeline and who plays which role", "The pipeline with the printed counts and those of this run.",
        _pipeline, (), ("sources", "decontamination", "selection", "balance", "roles"), ("roles",)),
    "decontamination": Figure(
        _DATA, "Questions left after each step of deduplication and decontamination.", _decontamination,
        ("decontamination",), (), ("sources", "decontamination")),
    "categories": Figure(_DATA, "Questions per category as tagged here.", _categories, ("categories",), ("roles",),
                         ("categories",)),
    "scores": Figure(_DATA, "Scores per criterion, of clean traces and of traces with a known flaw.", _scores,
                     ("scores",), ("roles",), ("scores",)),
    "selection": Figure(_DATA, "Rows with full marks and selected rows per category.", _selection, ("selection",), (),
                        ("selection",)),
    "shares": Figure(_DATA, "What the selected set is made of; a row with two categories counts twice.", _shares,
                     ("shares",), (), ("shares",)),
    "balance": Figure(
        "Audits of tagger and scorer", "Entropy over sources and categories while rows are removed one by one.",
        _balance, ("balance",), (), ("balance", "tagger_audit", "scorer_audit", "scorer_agreement")),
    "losses": Figure("Training", "Training loss of each variant.", _losses, ("losses",), _VARIANT_TABLES,
                     ("variants", "losses")),
    "first": _of_rates("First result", "first", "% of questions"),
    "safety": _of_rates("Safety", "safety", _OF_RESPONSES, "safety_differences", "judges_disagree", "judges_crossed"),
    "reasoning": _of_rates("Reasoning", "reasoning", "% answered correctly", "reasoning_differences"),
    "quality": _of_rates("High against medium scores", "quality", _OF_RESPONSES, "quality_differences"),
    "thinking": _of_rates("With and without thinking", "thinking", _OF_RESPONSES, "thinking_differences"),
    "over_refusal": _of_rates("Over-refusal and benign variants", "over_refusal", _OF_RESPONSES,
                              "over_refusal_differences", "over_refusal_disagree"),
    "dose": Figure(
        "Dose and response", "Recipes that differ in one dose (benign rows in % of all, rows at equal steps, steps of "
        "a schedule or until a longer one is stopped, learning rate, LoRA rank). Lines through means over seeds, bars "
        "from the lowest to the highest seed; of one seed its 95% interval.",
        _dose, ("dose",), (), ("dose",)),
}  # fmt: skip


def figure(name: str) -> Figure:
    """The figure called `name`; raises :class:`UserError` with the known names."""
    if name not in FIGURES:
        raise UserError(f"figure '{name}': not known; the figures are {', '.join(FIGURES)}.")
    return FIGURES[name]


def sections(out: Path, pictures: Path) -> Iterator[tuple[str, list[str], dict[str, pd.DataFrame]]]:
    """The report's sections in order: title, its figures that `pictures` holds, its tables that the build has."""
    for title in dict.fromkeys(wanted.section for wanted in FIGURES.values()):
        mine = {name: wanted for name, wanted in FIGURES.items() if wanted.section == title}
        drawn = [name for name in mine if (pictures / f"{name}.svg").exists()]
        yield title, drawn, tables.some(out, [table for wanted in mine.values() for table in wanted.shows])


def all_tables() -> list[str]:
    """Every table that a figure is drawn from or stands above: what is published of a run."""
    return list(dict.fromkeys(name for wanted in FIGURES.values() for name in (*wanted.needs, *wanted.shows)))


def draw(name: str, out: str | Path) -> list[Path]:
    """Draw one figure as SVG, PNG and PDF, and as Markdown and LaTeX where it is a table.

    An empty list when a table of it is empty under this profile; :class:`UserError` when one is missing.
    """
    import matplotlib as mpl

    wanted = figure(name)
    data = {table: tables.read(out, table) for table in wanted.needs}
    if any(frame.empty for frame in data.values()):
        return []
    data = {table: _plain(frame) for table, frame in (data | tables.some(out, wanted.beside)).items()}
    path = Path(out) / "figures" / name
    with mpl.rc_context(_STYLE):
        drawn = wanted.draw(data)
        for suffix, options in _FORMATS.items():
            with atomic_path(path.with_suffix(suffix), suffix) as temporary:
                drawn.savefig(temporary, **options)
            drawn.set_layout_engine("none")  # the first drawing has laid it out
    paths = [path.with_suffix(suffix) for suffix in _FORMATS]
    if wanted.text:
        frame = wanted.text(data)
        paths.append(write_text(path.with_suffix(".md"), "\n".join(tables.markdown(frame)) + "\n"))
        paths.append(write_text(path.with_suffix(".tex"), frame.to_latex(index=False, escape=True, na_rep="")))
    return paths


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` without control characters, which an SVG cannot hold."""
    return frame.map(lambda cell: plain(cell) if isinstance(cell, str) else cell)


def _ready(out: Path) -> list[str]:
    return [name for name, wanted in FIGURES.items() if all(tables.exists(out, table) for table in wanted.needs)]


def outdated(out: str | Path) -> list[str]:
    """The figures whose tables are there and that are not, or were drawn before one of their tables was written."""
    written = {path.stem: path.stat().st_mtime for path in tables.folder(out).glob("*.csv")}
    found = []
    for name in _ready(Path(out)):
        pictures = [Path(out) / "figures" / f"{name}{suffix}" for suffix in _FORMATS]
        drawn = min(path.stat().st_mtime if path.exists() else -math.inf for path in pictures)
        if any(written.get(table, 0.0) > drawn for table in (*FIGURES[name].needs, *FIGURES[name].beside)):
            found.append(name)
    return found


def draw_all(profile: str, root: Path = Path()) -> list[Path]:
    """Draw every figure whose tables are there; without any table those of the printed numbers alone."""
    out = root / stages.BUILD / profile
    if not tables.folder(out).is_dir():
        log.warning("%s: no tables yet, so the printed numbers stand alone; `make reproduce` adds ours.", out)
    return [path for name in _ready(out) for path in draw(name, out)]


def show(name: str, out: str | Path) -> None:
    """Draw a figure and show it in a notebook with its caption."""
    from IPython.display import HTML, Image, display

    said = f"{name}: nothing to draw under this profile."
    if paths := draw(name, out):
        said = caption(name, out)
        display(Image(str(paths[1]), alt=said))  # type: ignore[no-untyped-call]
    display(HTML(f"<em>{escape(said)}</em>"))  # type: ignore[no-untyped-call]


def caption(name: str, out: str | Path) -> str:
    """What the figure shows, who judged, and who stands in for whom."""
    wanted = figure(name)
    found = tables.some(out, (*wanted.needs, *wanted.beside))
    judged = next((found[table] for table in wanted.needs if "judge" in found.get(table, ())), None)
    judges: Sequence[str] = [] if judged is None else list(judged["judge"].dropna().unique())
    text = wanted.about + (f" Judged by: {', '.join(judges)}." if judges else "")
    if "roles" in found:
        roles = found["roles"].dropna(subset=["stands_in_for"])
        stand_ins = [f"{row.played_by} for {row.stands_in_for} ({row.role})" for row in roles.itertuples()]
        text += f" Stand-ins: {'; '.join(stand_ins)}." if stand_ins else ""
    return text
