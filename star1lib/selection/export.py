"""Export of a selected set in the released schema, as JSON and Parquet with a dataset card (paper 2.3).

Columns: id, question, response (`<think>…</think>` and the answer), category (list of str), source, and
score with the three released criteria. A folder written here opens with `datasets.load_dataset(folder)`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from star1lib.errors import UserError
from star1lib.files import atomic_path, write_json, write_manifest, write_text
from star1lib.models.chat import join_thinking
from star1lib.models.upstream import ReleasedScores
from star1lib.records import Example

NAME = "STAR-1 reproduced"
# A criterion of `Scores` -> its name in the released files.
CRITERIA = {name: str(field.validation_alias) for name, field in ReleasedScores.model_fields.items()}
COLUMNS = ("id", "question", "response", "category", "source", "score")
_BODY = """
# {name}

{count} questions with a thinking trace over written safety policies and an answer, made by the method of *STAR-1: Safer
Alignment of Reasoning LLMs with 1K Data* with star1lib. Answered by: {teachers}.

| column | content |
|---|---|
| `id` | hash of the normalised question |
| `question` | the instruction |
| `response` | `<think>` trace `</think>`, then the answer |
| `category` | one or more of the safety categories |
| `source` | the set that the question comes from |
| `score` | three criteria, 0 to 10 each |
{tables}
## Use

The questions name harms, and the answers decline or handle them safely: the set is for making models safer and for
research on it. Each question stays under the licence of its source.
"""


def row_of(example: Example) -> dict[str, Any]:
    """One example in the released schema; `score` is None when it was never scored."""
    score = example.score
    return {
        "id": example.id,
        "question": example.question,
        "response": join_thinking(example.thinking, example.answer),
        "category": list(example.category),
        "source": example.source,
        "score": {name: getattr(score, short) for short, name in CRITERIA.items()} if score else None,
    }


def card(examples: Sequence[Example], facts: Mapping[str, Any]) -> str:
    """The dataset card: what it is, who made it, how many rows per category and source, and the terms of use.

    Names and facts may be any text: none of it becomes markup.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    counted = (
        ("category", "rows", Counter(label for example in examples for label in example.category).most_common()),
        ("source", "rows", Counter(example.source for example in examples).most_common()),
        ("fact", "value", facts.items()),
    )
    body = _BODY.format(
        name=NAME,
        count=len(examples),
        teachers=", ".join(map(_inert, sorted({example.teacher for example in examples}))) or "nobody",
        tables="".join(_table(*table) for table in counted if table[2]),
    )
    data = DatasetCardData(
        license="apache-2.0",
        language=["en"],
        tags=["safety", "reasoning", "alignment"],
        pretty_name=NAME,
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "data.parquet"}]}],
    )
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n{body}"))


def _table(name: str, value: str, rows: Iterable[tuple[str, Any]]) -> str:
    lines = (f"| {_inert(key)} | {_inert(content)} |" for key, content in rows)
    return "\n".join(["", f"| {name} | {value} |", "|---|---|", *lines, ""])


def _inert(value: Any) -> str:
    """`value` on one line, every character that Markdown or HTML may read as markup written by its number."""
    text = re.sub(r"[^\w ,./()-]|_", lambda found: f"&#{ord(found[0])};", " ".join(str(value).split()))
    return text.replace("www.", "www&#46;")


def write(folder: Path, examples: Sequence[Example], facts: Mapping[str, Any]) -> Path:
    """Write `data.json`, `data.parquet`, the card `README.md` and, last, the manifest; returns the folder.

    Equal rows give equal bytes. Raises :class:`UserError` when there is nothing to export or two rows share an id.
    """
    if not examples:
        raise UserError(f"{folder}: there are no rows to export; select some first.")
    repeated = [key for key, count in Counter(example.id for example in examples).items() if count > 1]
    if repeated:
        raise UserError(f"{folder}: id '{repeated[0]}' occurs twice; export one trace per question.")
    rows = [row_of(example) for example in examples]
    written = [write_json(folder / "data.json", rows), _write_parquet(folder / "data.parquet", rows)]
    written.append(write_text(folder / "README.md", card(examples, facts)))
    write_manifest(folder, written, name=NAME, rows=len(rows))
    return folder


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    from datasets import Dataset, Features, List, Value

    text, marks = Value("string"), {name: Value("int64") for name in CRITERIA.values()}
    features = Features(dict.fromkeys(COLUMNS, text) | {"category": List(text), "score": marks})
    with atomic_path(path) as temporary:
        Dataset.from_list(rows, features=features).to_parquet(str(temporary))
    return path
