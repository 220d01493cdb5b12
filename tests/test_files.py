"""Files between stages: atomic, checked, with one sentence for whatever is wrong with them."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from star1lib import files as io
from star1lib.errors import UserError
from star1lib.records import Question, Scores


def test_round_trip_and_ids(tmp_path: Path) -> None:
    questions = [Question.make("What now?", "a"), Question.make("  what   NOW? ", "b"), Question.make("é\u2028x", "c")]
    io.write_jsonl(tmp_path / "q.jsonl", questions)
    assert io.read_records(tmp_path / "q.jsonl", Question) == questions
    assert questions[0].id == questions[1].id != questions[2].id


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"id": "1", "source": "s"}', "field 'text'"),
        ('{"id": "1", "text": "  ", "source": "s"}', "field 'text'"),
        ('{"id": "1", "text": "x", "source": "s", "more": 1}', "field 'more'"),
        ('{"id": "1", "text": "x", "sou', "truncated or damaged"),
        ("[1]", "a JSON object was expected"),
    ],
)
@pytest.mark.attack("bad rows")
def test_bad_rows_are_named_by_file_line_and_field(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UserError, match=rf"q\.jsonl, line 1.*{sentence}"):
        io.read_records(path, Question)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        io.read_jsonl(tmp_path / "no.jsonl")
    (tmp_path / "bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        io.read_jsonl(tmp_path / "bin")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("{}\n")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UserError, match="cannot be read"):
        io.read_jsonl(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.attack("environments")
@pytest.mark.parametrize("rows", [2_000, 20_000])
def test_a_small_disk_keeps_the_old_file_and_takes_the_new_one_when_space_is_given_back(
    small_disk: Path, rows: int
) -> None:
    path, ballast = small_disk / "out.jsonl", small_disk / "ballast"
    io.write_jsonl(path, [{"a": 0}])
    ballast.write_bytes(b"x" * 180_000)
    with pytest.raises(UserError, match="the disk is full"):
        io.write_jsonl(path, ({"a": "x" * 40, "n": n} for n in range(rows)))
    assert io.read_jsonl(path) == [{"a": 0}]
    assert sorted(p.name for p in small_disk.iterdir()) == ["ballast", "out.jsonl"]
    ballast.unlink()
    assert io.write_jsonl(path, ({"a": "x" * 40, "n": n} for n in range(2_000))) == 2_000
    assert len(io.read_jsonl(path)) == 2_000


@pytest.mark.attack("kills")
def test_a_kill_in_mid_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    io.write_json(path, 1)
    with pytest.raises(KeyboardInterrupt), io.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert io.read_json(path) == 1


@pytest.mark.attack("damaged files")
def test_manifest_catches_changes(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(UserError, match="did not finish"):
        io.verify_manifest(tmp_path)
    io.write_jsonl(path, [{"a": 1}])
    io.write_manifest(tmp_path, [path])
    io.verify_manifest(tmp_path)
    path.write_text("changed")
    with pytest.raises(UserError, match="missing or changed"):
        io.verify_manifest(tmp_path)


def test_scores_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="field 'relevancy'"):
        io.parse_record({"compliance": 10, "relevancy": 11, "accuracy": 3}, Scores, "row 1")


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert io.read_jsonl(tmp_path / "x.jsonl") == [{"a": 1}]


@pytest.mark.attack("damaged files")
def test_a_lone_surrogate_is_kept_and_never_stops_a_stage(tmp_path: Path) -> None:
    io.write_jsonl(tmp_path / "x.jsonl", [{"text": "half \ud800 a pair"}, {"text": "é\u2028"}])
    assert [row["text"] for row in io.read_jsonl(tmp_path / "x.jsonl")] == ["half \ud800 a pair", "é\u2028"]


@pytest.mark.attack("damaged files")
def test_deep_json_is_damage_and_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    with pytest.raises(UserError, match="line 1: not valid JSON"):
        io.read_jsonl(tmp_path / "deep.jsonl")
    with pytest.raises(UserError, match="not valid JSON"):
        io.read_json(tmp_path / "deep.jsonl")


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
@pytest.mark.attack("environments")
def test_the_umask_is_respected(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        io.write_text(tmp_path / "x", "y")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == mode


@pytest.mark.attack("environments")
def test_a_full_disk_leaves_the_old_file_and_no_parts(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    io.write_text(tmp_path / "x", "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(UserError, match="the disk is full, nothing was written"):
            io.write_text(tmp_path / "x", "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "x").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.attack("kills")
def test_what_kills_left_half_written_is_swept(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".rows.jsonl.ab12cd34.part").write_text("half")
    (tmp_path / "deep" / "rows.jsonl").write_text("whole")
    assert io.sweep(tmp_path) == 1
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["rows.jsonl"]


@pytest.mark.attack("two at once")
def test_a_lock_names_its_holder_and_a_dead_holder_is_none(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from star1lib import files\n"
        "with files.lock(Path(sys.argv[1]), '05_sft'):\n    print('held', flush=True); time.sleep(3600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=rf"process {holder.pid} \(05_sft\) is working here"), io.lock(tmp_path, "x"):
        pass
    holder.kill()
    holder.wait()
    with io.lock(tmp_path, "x"):
        pass


@pytest.mark.attack("damaged files")
@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{}", '{"files": []}', '{"files": {"a": 3}}', '{"files": {"a": {}}}', "\x00"]
)
def test_an_odd_manifest_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / io.MANIFEST).write_text(text)
    for read in (io.read_manifest, io.verify_manifest):
        with pytest.raises(UserError, match=r"manifest\.json: (not valid JSON|lists no files)") as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.attack("damaged files")
def test_a_folder_in_the_place_of_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / io.MANIFEST).mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        io.read_json(tmp_path / io.MANIFEST)
