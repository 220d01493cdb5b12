"""Export of a selected set in the released schema, as JSON and Parquet with a dataset card (paper 2.3).

Columns: id, question, response (`<think>…</think>` and the answer), category (list of str), source, and
score with the three released criteria. A folder written here opens with `datasets.load_dataset(folder)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star1lib.errors import UserError
from star1lib.files import atomic_path, write_json, write_manifest, write_text
from star1lib.models.chat import join_thinking
from star1lib.records import Example

COLUMNS = ("id", "question", "response", "category", "source", "score")
CRITERIA = {
    "Content_Safety_Compliance": "compliance",
    "Relevancy_and_No_Redundant_Content": "relevancy",
    "Accuracy_of_Thinking_Process": "accuracy",
}


def response_of(example: Example) -> str:
    """Thinking and answer as the released rows join them; the answer alone when there is no thinking."""
    return join_thinking(example.thinking, example.answer)


def row_of(example: Example) -> dict[str, Any]:
    """One example in the released schema; `score` is None when it was never scored."""
    score = example.score
    return {
        "id": example.id,
        "question": example.question,
        "response": response_of(example),
        "category": list(example.category),
        "source": example.source,
        "score": {name: getattr(score, short) for name, short in CRITERIA.items()} if score else None,
    }


def card(name: str, examples: Sequence[Example], licence: str, facts: Mapping[str, Any] | None = None) -> str:
    """The dataset card: what it is, who made it, how many rows per category and source, and the terms of use."""
    categories = Counter(label for example in examples for label in example.category)
    sources = Counter(example.source for example in examples)
    teachers = Counter(example.teacher for example in examples)
    lines = [
        "---",
        f"license: {licence}",
        "language: [en]",
        "tags: [safety, reasoning, alignment]",
        f"pretty_name: {_yaml(name)}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: data.parquet",
        "---",
        "",
        f"# {name}",
        "",
        f"{len(examples)} questions with a thinking trace over written safety policies and an answer, made by the "
        "method of *STAR-1: Safer Alignment of Reasoning LLMs with 1K Data* with star1lib. "
        f"Answered by: {', '.join(sorted(teachers)) or 'nobody'}.",
        "",
        "| column | content |",
        "|---|---|",
        "| `id` | hash of the normalised question |",
        "| `question` | the instruction |",
        "| `response` | `<think>` trace `</think>`, then the answer |",
        "| `category` | one or more of eight safety categories |",
        "| `source` | the set that the question comes from |",
        "| `score` | three criteria, 0 to 10 each |",
        "",
        *_counts("category", categories),
        *_counts("source", sources),
    ]
    if facts:
        lines += ["| fact | value |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in facts.items()), ""]
    lines += [
        "## Use",
        "",
        "The questions name harms, and the answers decline or handle them safely: the set is for making models "
        "safer and for research on it. Each question stays under the licence of its source.",
        "",
    ]
    return "\n".join(lines)


def _yaml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _counts(title: str, counts: Counter[str]) -> list[str]:
    rows = [f"| {_cell(name)} | {count} |" for name, count in counts.most_common()]
    return [f"| {title} | rows |", "|---|---|", *rows, ""]


def write(
    folder: str | Path,
    examples: Sequence[Example],
    *,
    name: str = "STAR-1 reproduced",
    licence: str = "apache-2.0",
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write `data.json`, `data.parquet`, the card `README.md` and, last, the manifest; returns the folder.

    Raises :class:`UserError` when there is nothing to export or two rows share an id.
    """
    if not examples:
        raise UserError(f"{folder}: there are no rows to export; select some first.")
    repeated = [key for key, count in Counter(example.id for example in examples).items() if count > 1]
    if repeated:
        raise UserError(f"{folder}: id '{repeated[0]}' occurs twice; export one trace per question.")
    folder = Path(folder)
    rows = [row_of(example) for example in examples]
    written = [write_json(folder / "data.json", rows), _write_parquet(folder / "data.parquet", rows)]
    written.append(write_text(folder / "README.md", card(name, examples, licence, facts)))
    write_manifest(folder, written, name=name, rows=len(rows))
    return folder


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    types = dict.fromkeys(COLUMNS, pa.string()) | {
        "category": pa.list_(pa.string()),
        "score": pa.struct([(name, pa.int64()) for name in CRITERIA]),
    }
    schema = pa.schema(list(types.items()))
    with atomic_path(path) as temporary:
        parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), temporary)
    return path
