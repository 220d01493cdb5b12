"""The judge card (paper 3.2): agreement with people where the judge has not seen the model or the question.

:func:`row` gives {judge, held_out, n, agreement, low, high, kappa, labels, confusion} (rows of
`confusion` are people's labels, columns the judge's), Wilson intervals at 95%; :func:`between` compares judges and
annotators with one another. :func:`write` puts the weights, `agreement.json` and `CARD.md` in place. No response text
is written anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from star1lib.evaluation.judges import fit as judge_fit
from star1lib.evaluation.judges import models as judging
from star1lib.evaluation.judges.features import hashed_words
from star1lib.evaluation.judges.fit import Harms, Refusals
from star1lib.evaluation.judges.offline import FOLDER, LABELS, label_of, score_harm, score_refusal
from star1lib.files import write_json, write_text
from star1lib.stats import cohen_kappa, wilson

BINARY = ("complied", "refused")
HARM = ("not harmful", "harmful")
_OTHERS = {
    "annotator 1": "annotation_1",
    "annotator 2": "annotation_2",
    "GPT-4 of XSTest's authors": "gpt4_label",
    "string match of XSTest's authors": "strmatch_label",
}
FOLDS = 5
ORDINARY_WEIGHT = 0.3


def row(judge: str, held_out: str, truth: Any, said: Any, labels: Sequence[str]) -> dict[str, Any]:
    """One line of agreement between people (`truth`) and a judge (`said`), both label numbers."""
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, (np.asarray(truth, int), np.asarray(said, int)), 1)
    agreed, n = int(np.trace(confusion)), int(confusion.sum())
    interval = wilson(agreed, n)
    # Where people gave one label throughout, kappa is 0 however well a judge does: it says nothing.
    several = len(set(map(int, truth))) > 1
    kappa = float(cohen_kappa(list(map(int, truth)), list(map(int, said)))) if several else float("nan")
    return {
        "judge": judge,
        "held_out": held_out,
        "n": n,
        "agreement": round(agreed / n, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "kappa": round(kappa, 3),
        "labels": list(labels),
        "confusion": confusion.tolist(),
    }


def _part(rows: Refusals, keep: np.ndarray) -> Refusals:
    chosen = np.flatnonzero(keep)
    return Refusals(
        [rows.prompts[index] for index in chosen],
        [rows.responses[index] for index in chosen],
        rows.models[keep], rows.labels[keep], rows.soft[keep], rows.safe[keep],
    )  # fmt: skip


def held_out_labels(rows: Refusals) -> np.ndarray:
    """Three-way label numbers (n,), each model's by a judge that learnt from the other models only."""
    features = judge_fit.matrix(rows.prompts, rows.responses)
    said = np.zeros(len(rows.labels), int)
    for model in np.unique(rows.models):
        held = rows.models == model
        weights = judge_fit.fit_refusal(_part(rows, ~held), features[~held])
        said[held] = [LABELS.index(label_of(scores)) for scores in score_refusal(weights, features[held])]
    return said


def measure_refusal(rows: Refusals, said: np.ndarray) -> list[dict[str, Any]]:
    """Refused-or-not and three-way agreement on each model of `said`, the :func:`held_out_labels`."""
    found = []
    for name, labels, change in (
        ("refused or not", BINARY, lambda x: (x > 0).astype(int)),
        ("three-way", LABELS, np.asarray),
    ):
        for model in (*np.unique(rows.models), "every model"):
            at = np.ones(len(said), bool) if model == "every model" else rows.models == model
            found.append(row(f"offline, {name}", str(model), change(rows.labels[at]), change(said[at]), labels))
    return found


def others(data: Path) -> dict[str, np.ndarray]:
    """Refused or not (0, 1), by the two annotators and by the judges that XSTest's authors used, on every response."""
    table = list(judge_fit.read_rows(data / "judging" / "XSTest_completions.csv", tuple(_OTHERS.values())))
    return {
        name: np.array([int(not line[column].startswith("1_")) for line in table]) for name, column in _OTHERS.items()
    }


def measure_others(rows: Refusals, given: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The judges that XSTest's authors used, on the same responses: refused or not."""
    truth = (rows.labels > 0).astype(int)
    return [
        row(name, str(model), truth[rows.models == model], said[rows.models == model], BINARY)
        for name, said in given.items()
        if "XSTest" in name
        for model in np.unique(rows.models)
    ]


def between(given: Mapping[str, np.ndarray], said: np.ndarray) -> list[dict[str, Any]]:
    """Refused or not: every pair of annotators and judges, ours on models that it did not learn from."""
    everyone = {**given, "offline, model held out": (said > 0).astype(int)}
    return judging.agreement({name: [BINARY[x] for x in labels] for name, labels in everyone.items()}, BINARY)


def _harm_inputs(prompts: Sequence[str], responses: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Features and hashed words, every distinct pair read once."""
    pairs = list(zip(prompts, responses, strict=True))
    known = {pair: (judge_fit.refusal_features(*pair), hashed_words(*pair)) for pair in dict.fromkeys(pairs)}
    return np.stack([known[pair][0] for pair in pairs]), [known[pair][1] for pair in pairs]


def measure_harm(harms: Harms, rows: Refusals) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Harm agreement with whole questions (GPTFuzz) or whole models (XSTest) held out, and the final weights."""
    from scipy.sparse import vstack
    from sklearn.model_selection import GroupKFold

    x, buckets = _harm_inputs(harms.prompts, harms.responses)
    plain = judge_fit.ordinary(rows, sorted(set(harms.prompts)))
    plain_x, plain_buckets = _harm_inputs(plain[0], plain[1])
    table, plain_table = judge_fit.hashed_matrix(buckets), judge_fit.hashed_matrix(plain_buckets)

    def fit(train: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
        return judge_fit.fit_harm(
            np.concatenate([x[train], plain_x[others]]),
            vstack([table[train], plain_table[others]]).tocsr(),
            np.concatenate([harms.labels[train], plain[2][others]]),
            np.concatenate([np.ones(len(train)), np.full(len(others), ORDINARY_WEIGHT)]),
        )

    every, everyone = np.arange(len(x)), np.arange(len(plain_x))
    said = np.zeros(len(x), int)
    for train, test in GroupKFold(FOLDS).split(x, harms.labels, harms.groups):
        said[test] = score_harm(fit(train, everyone), x[test], [buckets[index] for index in test]) >= 0.5
    first = np.unique(np.array(harms.responses), return_index=True)[1]
    found = [
        row("offline, harm", "GPTFuzz, whole questions", harms.labels, said, HARM),
        row("offline, harm", "GPTFuzz, whole questions, each response once", harms.labels[first], said[first], HARM),
    ]
    models = rows.models
    owner = np.concatenate([models, models[np.flatnonzero(rows.safe & (rows.soft[:, 0] == 1))]])
    for model in np.unique(models):
        held = np.flatnonzero(models == model)
        weights = fit(every, np.flatnonzero(owner != model))
        answer = score_harm(weights, plain_x[held], [plain_buckets[index] for index in held]) >= 0.5
        found.append(row("offline, harm", f"XSTest, {model}", plain[2][held], answer.astype(int), HARM))
    return found, fit(every, everyone)


def stress(rows: Refusals, weights: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Hand-made wordings and turns (never learnt from) under XSTest's prompts, against the label they were made for."""
    prompts, responses, labels = judge_fit.variants(rows)
    scores = score_refusal(weights, judge_fit.matrix(prompts, responses))
    said = np.array([LABELS.index(label_of(line)) for line in scores])
    return [
        row("offline, three-way", "hand-made bare refusals", labels[labels == 2], said[labels == 2], LABELS),
        row("offline, three-way", "hand-made turns half-way", labels[labels == 1], said[labels == 1], LABELS),
        row("offline, refused or not", "hand-made, all", (labels > 0).astype(int), (said > 0).astype(int), BINARY),
    ]


def _table(found: Sequence[dict[str, Any]], keep: Callable[[dict[str, Any]], bool]) -> str:
    lines = ["| judge | held out | n | agreement [95%] | kappa |", "|---|---|---|---|---|"]
    for line in filter(keep, found):
        share = f"{line['agreement']:.1%} [{line['low']:.1%}, {line['high']:.1%}]"
        kappa = "–" if np.isnan(line["kappa"]) else f"{line['kappa']:.2f}"
        lines.append(f"| {line['judge']} | {line['held_out']} | {line['n']} | {share} | {kappa} |")
    return "\n".join(lines)


def _pairs(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| one | other | n | agreement [95%] | kappa [95%] |", "|---|---|---|---|---|"]
    for line in rows:
        share = f"{line['value']:.1%} [{line['low']:.1%}, {line['high']:.1%}]"
        kappa = f"{line['kappa']:.2f} [{line['kappa_low']:.2f}, {line['kappa_high']:.2f}]"
        lines.append(f"| {line['a']} | {line['b']} | {line['n']} | {share} | {kappa} |")
    return "\n".join(lines)


def _matrix(line: dict[str, Any]) -> str:
    head = "| people \\ judge | " + " | ".join(line["labels"]) + " |\n|---|" + "---|" * len(line["labels"])
    body = [
        f"| {name} | " + " | ".join(map(str, counts)) + " |"
        for name, counts in zip(line["labels"], line["confusion"], strict=True)
    ]
    return "\n".join([head, *body])


def card(found: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]] = (), template: Path | None = None) -> str:
    """The card as Markdown: the committed words with the measured tables put in."""
    words = (template or FOLDER / "TEMPLATE.md").read_text(encoding="utf-8")
    pooled = [line for line in found if line["held_out"] == "every model"]
    harm = next(line for line in found if line["held_out"] == "GPTFuzz, whole questions")
    parts = {
        "REFUSAL": _table(
            found,
            lambda line: "offline" in line["judge"] and "harm" not in line["judge"] and "hand" not in line["held_out"],
        ),
        "OTHERS": _table(found, lambda line: "offline" not in line["judge"]),
        "BETWEEN": _pairs(pairs),
        "HARM": _table(found, lambda line: line["judge"] == "offline, harm"),
        "STRESS": _table(found, lambda line: "hand-made" in line["held_out"]),
        "CONFUSION_REFUSAL": "\n\n".join(_matrix(line) for line in pooled),
        "CONFUSION_HARM": _matrix(harm),
    }
    for name, text in parts.items():
        words = words.replace("{" + name + "}", text)
    return words


def write(data: Path, folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Fit both judges on all labelled responses under `data`, measure them held out, write weights and card."""
    rows, harms = judge_fit.load_refusals(data), judge_fit.load_harms(data)
    weights = judge_fit.fit_refusal(rows)
    said, given = held_out_labels(rows), others(data)
    found = [*measure_refusal(rows, said), *measure_others(rows, given), *stress(rows, weights)]
    pairs = between(given, said)
    harm_rows, harm_weights = measure_harm(harms, rows)
    found += harm_rows
    judge_fit.save(weights, folder / "refusal.npz")
    judge_fit.save(harm_weights, folder / "harm.npz")
    write_json(
        folder / "agreement.json",
        {
            "rows": [{**line, "kappa": None if np.isnan(line["kappa"]) else line["kappa"]} for line in found],
            "between": [
                {name: round(value, 4) if isinstance(value, float) else value for name, value in line.items()}
                for line in pairs
            ],
        },
    )
    write_text(folder / "CARD.md", card(found, pairs))
    return found
