"""Export: the released schema as JSON and Parquet, which `datasets` opens, and the card."""

import made
import pytest
import yaml

from star1lib import files as io
from star1lib.collection import released as published
from star1lib.errors import UserError
from star1lib.records import Question
from star1lib.selection import export

MARKS = made.scores(10, 9, 8)


def example(number, **changes):
    fields = {"id": f"q{number}", "source": "ALERT", "category": ["Self-Harm", "Sexual / Adult"], "score": MARKS,
              "thinking": "I think.", "answer": "I can't help."}  # fmt: skip
    return made.example(f"Question {number}: „Grüße“ | 数?", **{**fields, **changes})


@pytest.fixture
def folder(tmp_path):
    rows = [example(0), example(1, score=None), example(2, thinking="")]
    return export.write(tmp_path / "set", rows, {"profile": "mini"})


def test_the_columns_are_the_released_ones(folder) -> None:
    rows = io.read_json(folder / "data.json")
    assert [list(row) for row in rows] == [list(export.COLUMNS)] * 3
    assert rows[0]["score"] == {"Content_Safety_Compliance": 10, "Relevancy_and_No_Redundant_Content": 9,
                                "Accuracy_of_Thinking_Process": 8}  # fmt: skip
    assert rows[0]["response"] == "<think>\nI think.\n</think>\n\nI can't help."
    assert rows[1]["score"] is None and rows[2]["response"] == "I can't help."


def test_datasets_opens_the_folder_and_the_json_without_a_network(folder, tmp_path, monkeypatch) -> None:
    import socket

    import datasets

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a folder opens without a network"))

    cache = str(tmp_path / "cache")
    opened = datasets.load_dataset(str(folder), split="train", cache_dir=cache)
    assert opened.column_names == list(export.COLUMNS) and len(opened) == 3
    rows = io.read_json(folder / "data.json")
    assert opened.to_list() == rows
    from_json = datasets.load_dataset("json", data_files=str(folder / "data.json"), split="train", cache_dir=cache)
    assert from_json["question"][:] == [row["question"] for row in rows]


def test_what_was_exported_reads_back_as_released_rows(folder) -> None:
    row = io.read_json(folder / "data.json")[0]
    back = published.example_of(Question(id=row["id"], text=row["question"], source="x", meta=row), "row 1")
    assert (back.thinking, back.answer, back.score) == ("I think.", "I can't help.", MARKS)
    assert back.category == ["Self-Harm", "Sexual / Adult"]


def test_the_card_has_valid_front_matter_and_counts(folder) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front["pretty_name"] == export.NAME and front["license"] == "apache-2.0"
    assert front["configs"][0]["data_files"][0]["path"] == "data.parquet"
    assert "| Sexual / Adult | 3 |" in text and "| ALERT | 3 |" in text and "| profile | mini |" in text


HOSTILE = 'x"\n---\nlicense: mit\n|a|<script>1</script> [l](http://e.example) ![i](www.e.example) `c` *b* _u_ {0}'


@pytest.mark.attack("injection and what is shown")
def test_hostile_text_in_the_card_is_inert(tmp_path) -> None:
    """Whatever source, teacher, category and facts say: the front matter keeps its fields, the page its markup."""
    from huggingface_hub import DatasetCard

    rows = [example(0, source=HOSTILE, teacher=HOSTILE, category=[HOSTILE])]
    folder = export.write(tmp_path / "set", rows, {HOSTILE: HOSTILE})
    found = DatasetCard.load(folder / "README.md")
    assert set(found.data.to_dict()) == {"license", "language", "tags", "pretty_name", "configs"}
    plain = DatasetCard(export.card([example(0, source="x", teacher="x", category=["x"])], {"x": "x"}))
    for mark in ("<", "](", "://", "www.", "`", "*", "_", "|", "{", "\n#", "\n"):
        assert found.text.count(mark) == plain.text.count(mark), mark


def test_equal_rows_give_equal_bytes(folder, tmp_path) -> None:
    rows = [example(0), example(1, score=None), example(2, thinking="")]
    again = export.write(tmp_path / "again", rows, {"profile": "mini"})
    for name in ("data.json", "data.parquet", "README.md", "manifest.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name
    assert set(io.verify_manifest(folder)["files"]) == {"data.json", "data.parquet", "README.md"}


def test_nothing_or_twice_is_refused_and_nothing_written(tmp_path) -> None:
    with pytest.raises(UserError, match="no rows"):
        export.write(tmp_path / "set", [], {})
    with pytest.raises(UserError, match="'q0' occurs twice"):
        export.write(tmp_path / "set", [example(0), example(0)], {})
    assert not (tmp_path / "set").exists()
