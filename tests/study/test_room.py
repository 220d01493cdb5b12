"""Before the run: folders, open files, disk and memory against what the profile needs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from star1lib.errors import UserError
from star1lib.study import plan, profiles, room

pytestmark = pytest.mark.attack("environments")


@pytest.fixture
def mini(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> profiles.Profile:
    """The mini profile on a machine with room for it."""
    monkeypatch.setenv("STAR1_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    disk(monkeypatch, 100)
    monkeypatch.setattr(room, "_meminfo", lambda: 64.0 * plan.GIB)
    return profiles.load("mini", repository)


def disk(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    total, used, _ = shutil.disk_usage("/")
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: usage(total, used, int(gib * plan.GIB)))


def test_a_machine_with_room_passes(mini: profiles.Profile, tmp_path: Path) -> None:
    room.check(mini, tmp_path)
    assert list((tmp_path / "build" / "mini").iterdir()) == []


def test_what_a_profile_needs_follows_from_models_and_size(mini: profiles.Profile, repository: Path) -> None:
    assert room._models(mini) == 9  # eight variants and the model of stage 0
    disk, memory = room.needs(mini)
    assert 1 + 9 * 0.5 < disk < 1 + 11 * 0.56
    paper_disk, paper_memory = room.needs(profiles.load("paper", repository))
    assert paper_disk > disk and paper_memory <= memory + 140  # `make plan` judges what is shared out over GPUs


def test_a_disk_that_is_too_small(mini: profiles.Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 2)
    with pytest.raises(
        UserError, match=r"2\.0 GiB are free on its disk, the profile needs about \d\.\d more; free some"
    ):
        room.check(mini, tmp_path)
    made = tmp_path / "build" / "mini" / "models" / "star1-x" / "model.safetensors"
    made.parent.mkdir(parents=True)
    with made.open("wb") as file:
        file.truncate(6 * plan.GIB)  # what is there already needs no room
    room.check(mini, tmp_path)


def test_memory_that_is_too_small(mini: profiles.Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_cgroup", lambda: 1.0 * plan.GIB)
    with pytest.raises(UserError, match=r"the container's limit \(memory.max\) is 1\.0 GiB, the profile needs about"):
        room.check(mini, tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
@pytest.mark.parametrize(("limits", "refused"), [((64, 64), True), ((64, 8192), False), ((8192, 8192), False)])
def test_open_files(
    mini: profiles.Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], refused: bool
) -> None:
    import resource

    given: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits if kind == resource.RLIMIT_NOFILE else (-1, -1))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, wanted: given.append(wanted))
    if refused:
        with pytest.raises(UserError, match="64 are allowed here, 256 are needed; run `ulimit -n 256`"):
            room.check(mini, tmp_path)
    else:
        room.check(mini, tmp_path)
    assert given == ([(4096, 8192)] if limits == (64, 8192) else [])


@pytest.mark.parametrize("variable", ["", "STAR1_CACHE", "HOME"])
def test_a_folder_that_cannot_be_written_to(
    mini: profiles.Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    if variable:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR" if variable == "HOME" else variable, str(tmp_path / "file" / "x"))
    where = tmp_path if variable else tmp_path / "file"
    with pytest.raises(UserError, match=f"cannot be written to .*make it writable.*{variable}"):
        room.check(mini, where)


def test_a_model_of_ones_own_is_measured(mini: profiles.Profile, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.json").write_text('{"torch_dtype": "float32"}')
    (tmp_path / "own" / "model.safetensors").write_bytes(b"x" * 4000)
    assert room._parameters(str(tmp_path / "own")) == 1000


def test_a_hub_model_outside_the_table_is_sized_by_its_list_or_its_name() -> None:
    assert room._parameters("owner/Large-7B-Chat") == 7_000_000_000 and room._parameters("o/Small-1.5b") == 1.5e9
    assert room._parameters("o/Tiny-360M-Instruct") == 360e6
    assert room._parameters("somebody/unknown", 3) == 3_000_000_000
    with pytest.raises(UserError, match=r"'somebody/unknown': its size is not known; name a folder .* its `billions`"):
        room._parameters("somebody/unknown")


def test_memory_of_training_on_gpus_is_not_judged_where_there_are_none(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = profiles.load("paper", repository)
    for there, gib in ((None, 2), ("/usr/bin/nvidia-smi", 2 + 4 * 32.8e9 / plan.GIB)):
        monkeypatch.setattr(room.shutil, "which", lambda name, there=there: there)
        assert room.needs(paper)[1] == pytest.approx(gib, rel=0.01)


def test_every_model_of_a_list_needs_room(mini: profiles.Profile) -> None:
    models = [profiles.StudyModel(model=name) for name in ("tiny", "smollm2")]
    listed = mini.model_copy(update={"models": models})
    (disk, memory), (small, small_memory), (large, large_memory) = (
        room.needs(listed, names) for names in ((), ["tiny"], ["smollm2"])
    )
    assert disk > large > small and memory == large_memory > small_memory
