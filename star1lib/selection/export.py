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

from star1lib.collection.released import CRITERIA
from star1lib.errors import UserError
from star1lib.files import atomic_path, write_json, write_manifest, write_text
from star1lib.models.chat import join_thinking
from star1lib.records import Example

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
        "score": {name: getattr(score, short) for short, name in CRITERIA.items()} if score else None,
    }


def card(name: str, examples: Sequence[Example], licence: str, facts: Mapping[str, Any] | None = None) -> str:
    """The dataset card: what it is, who made it, how many rows per category and source, and the terms of use.

    Names, licence and facts may be any text: none of it becomes markup or a field of the front matter.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    counted = (
        ("category", "rows", Counter(label for example in examples for label in example.category).most_common()),
        ("source", "rows", Counter(example.source for example in examples).most_common()),
        ("fact", "value", (facts or {}).items()),
    )
    body = _BODY.format(
        name=_inert(name),
        count=len(examples),
        teachers=", ".join(map(_inert, sorted({example.teacher for example in examples}))) or "nobody",
        tables="".join(_table(*table) for table in counted if table[2]),
    )
    data = DatasetCardData(
        license=licence,
        language=["en"],
        tags=["safety", "reasoning", "alignment"],
        pretty_name=name,
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


def write(
    folder: str | Path,
    examples: Sequence[Example],
    *,
    name: str = "STAR-1 reproduced",
    licence: str = "apache-2.0",
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write `data.json`, `data.parquet`, the card `README.md` and, last, the manifest; returns the folder.

    Equal rows give equal bytes. Raises :class:`UserError` when there is nothing to export or two rows share an id.
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


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    from datasets import Dataset, Features, List, Value

    text, marks = Value("string"), {name: Value("int64") for name in CRITERIA.values()}
    features = Features(dict.fromkeys(COLUMNS, text) | {"category": List(text), "score": marks})
    with atomic_path(path) as temporary:
        Dataset.from_list(rows, features=features).to_parquet(str(temporary))
    return path
