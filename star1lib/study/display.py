"""Showing tables and items in a notebook: rates with intervals, prompts shortened, no completions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star1lib import safeguards
from star1lib.records import Example, ItemResult, Question
from star1lib.study import tables

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML
    from pandas.io.formats.style import Styler

_POINTS = ("difference", "printed", "refused", "smallest_visible", "cut_off_difference", "at_worst", "at_best")
_BOUNDS = ("low_bound", "high_bound", "other_value")


def table(out: str | Path, name: str) -> pd.DataFrame:
    """The table `name`, ready to read: a rate and its interval in one cell, as percentages; differences in points."""
    import pandas as pd

    frame = tables.read(out, name)
    if frame.empty:
        return pd.DataFrame({name: ["nothing to show under this profile", *left_out(out).values()]})
    return complete(readable(frame), out)


def left_out(out: str | Path) -> dict[str, str]:
    """The benchmarks that the run `out`, or one of its models, could not ask, each with the sentence that says why."""
    from star1lib.evaluation import run

    folders = [Path(out) / "evaluations", *sorted(Path(out).glob("*/evaluations"))]
    return {name: why for folder in folders for name, why in run.left_out(folder).items()}


def complete(frame: pd.DataFrame, out: str | Path) -> pd.DataFrame:
    """`frame`, a table of rates with a row for each benchmark of its kind that was left out, and why."""
    import pandas as pd

    from star1lib.evaluation import benchmarks

    if not {"variant", "benchmark", "metric", "value"} <= set(frame.columns):
        return frame
    metrics = set(frame["metric"])
    rows = [{"benchmark": name, "value": why} for name, why in left_out(out).items()
            if any(measure.metric in metrics for measure in benchmarks.benchmark(name).measures)]  # fmt: skip
    return pd.concat([frame, pd.DataFrame(rows)]).fillna("") if rows else frame


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with intervals folded into the figure that they belong to."""
    shown = frame.copy()
    figure = "value" if "value" in shown.columns else "difference"
    if {figure, "low", "high"} <= set(shown.columns):
        shown[figure] = [_with_interval(row, figure) for row in frame.to_dict("records")]
        shown = shown.drop(columns=["low", "high"])
    for column in shown.select_dtypes("float").columns.intersection([*_BOUNDS, *_POINTS]):
        sign = "+" if column in ("printed", "refused") else ""
        form = "{:.0f}%" if column in _BOUNDS else f"{{:{sign}.0f}} points"
        shown[column] = ["" if value != value else form.format(100 * value) for value in shown[column]]
    for column in shown.columns.intersection(["p", "p_holm"]):
        shown[column] = ["" if value != value else f"{value:.2g}" for value in shown[column]]
    for column in shown.select_dtypes("float").columns:
        whole = bool((shown[column].dropna() % 1 == 0).all())
        shown[column] = [_number(value, whole) for value in shown[column]]
    return shown.fillna("")


def _number(value: float, whole: bool) -> str | float:
    """A tiny p-value or learning rate is not 0, and a count is no fraction."""
    if value != value:
        return ""
    return f"{value:.0f}" if whole else f"{value:.2g}" if 0 < abs(value) < 0.001 else round(value, 3)


def _with_interval(row: dict[Any, Any], figure: str) -> str:
    value, low, high = row[figure], row["low"], row["high"]
    if value != value:
        return "undecided" if figure == "value" or row.get("n", 1) else ""
    if low != low:
        return f"{100 * value:.1f}%"
    if figure == "difference":
        return f"{100 * value:+.0f} points [{100 * low:+.0f}, {100 * high:+.0f}]"
    return f"{100 * value:.0f}% [{100 * low:.0f}, {100 * high:.0f}]"


def prompts(questions: Iterable[Question], per_source: int = 1) -> pd.DataFrame:
    """The first `per_source` questions of each source, shortened, with how many there are."""
    import pandas as pd

    frame = pd.DataFrame([(one.source, one.text) for one in questions], columns=["source", "question"])
    frame["questions"] = frame.groupby("source")["source"].transform("size")
    shown = frame.groupby("source").head(per_source).reset_index(drop=True)
    return shown.assign(question=shown["question"].map(safeguards.short_prompt))


def items(results: Sequence[ItemResult], metric: str, per_variant: int = 3) -> pd.DataFrame:
    """A few judged items of each variant: label, length, and the opening of a refusal."""
    import pandas as pd

    rows = [(item.variant, item.benchmark, item.item_id, item.label, item.outcome, item.response_chars, item.snippet)
            for item in results if item.metric == metric]  # fmt: skip
    columns = ["variant", "benchmark", "item", "label", "outcome", "characters", "response"]
    return pd.DataFrame(rows, columns=columns).groupby("variant").head(per_variant).reset_index(drop=True)


def outcomes(results: Sequence[ItemResult]) -> pd.DataFrame:
    """How the responses of each variant ended: complete, cut off, thinking never closed, empty."""
    import pandas as pd

    columns = ["variant", "benchmark", "outcome"]
    frame = pd.DataFrame([(item.variant, item.benchmark, item.outcome) for item in results], columns=columns)
    return frame.groupby(columns, sort=False).size().reset_index(name="responses")


def power(results: Sequence[ItemResult], variant: str) -> pd.DataFrame:
    """For each benchmark: its n, the rate of `variant`, and what drop that n can see."""
    import pandas as pd

    from star1lib import stats

    rates = stats.rates_table([item for item in results if item.variant == variant])
    rows = [(row["benchmark"], row["n"], row["value"], stats.power_note(row["n"], row["value"]))
            for row in rates if row["n"]]  # fmt: skip
    return pd.DataFrame(rows, columns=["benchmark", "n", "rate", "can see"])


def policy(category: str) -> HTML:
    """One policy as the teacher reads it (2.2)."""
    from IPython.display import HTML

    from star1lib.policies import BY_CATEGORY

    return HTML(f'<pre style="white-space:pre-wrap">{escape(BY_CATEGORY[category].render())}</pre>')


def trace(example: Example) -> Styler:
    """One example: its question, its categories, the thinking over the policy, the answer (2.2)."""
    import pandas as pd

    parts = {
        "question": safeguards.short_prompt(example.question),
        "categories": ", ".join(example.category),
        "thinking": _text(example, example.thinking),
        "answer": _text(example, example.answer),
        "teacher": example.teacher,
    }
    left: dict[str, Any] = {"text-align": "left", "white-space": "pre-wrap"}
    return pd.DataFrame({"": parts}).style.format(escape="html").set_properties(**left)


def scored(example: Example, reasons: Mapping[str, str]) -> pd.DataFrame:
    """The three scores of one example, each with the reason for the points taken off (2.3)."""
    import pandas as pd

    given = example.score.model_dump() if example.score else {}
    rows = [(name, points, reasons.get(name, "")) for name, points in given.items()]
    question = safeguards.short_prompt(example.question, 60)
    return pd.DataFrame(rows, [question] * len(rows), ["criterion", "score", "points off because it"])


def mask(tokens: Sequence[str], carries_loss: Sequence[bool]) -> HTML:
    """One training row token by token: what carries loss on green, what does not on grey (3.1)."""
    from IPython.display import HTML

    colour = {True: "#c7e9c0", False: "#e0e0e0"}
    spans = (f'<span style="background:{colour[bool(on)]};color:#222;white-space:pre-wrap">{escape(token)}</span>'
             for token, on in zip(tokens, carries_loss, strict=True))  # fmt: skip
    return HTML(f'<div style="line-height:1.7">{"".join(spans)}</div>')


def _text(example: Example, text: str) -> str:
    """Hand-written rows in full; of other rows the length and a refusal's opening."""
    return text if example.source.startswith("hand-written") else safeguards.refusal_snippet(text)
