"""Hub models: nothing unpinned, nothing that differs from its pin, hashed once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from star1lib.errors import UserError
from star1lib.models import checkpoints, pins

WEIGHTS = b"weights"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub with one model of two files in a folder, and an empty cache."""
    monkeypatch.setenv("STAR1_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "config.json").write_text("{}")

    class Api:
        def repo_info(self, name: str, repo_type: str, files_metadata: bool) -> Any:
            if name != "owner/model":
                raise OSError("no such model")
            large = {"sha256": hashlib.sha256(WEIGHTS).hexdigest()}
            files = [("model.safetensors", large), ("config.json", None), ("README.md", None)]
            return SimpleNamespace(sha="abc123", siblings=[SimpleNamespace(rfilename=n, lfs=f) for n, f in files])

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda name, file, **_: str(folder / file))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(folder))
    return folder


def test_a_model_comes_at_its_pin_or_not_at_all(hub: Path) -> None:
    with pytest.raises(UserError, match=r"record revision and hashes once by .*pin-model owner/model. or .make pins"):
        checkpoints.resolve("owner/model")
    pin = pins.record_model("owner/model")
    assert pin.revision == "abc123" and sorted(pin.files) == ["config.json", "model.safetensors"]
    assert checkpoints.resolve("owner/model") == str(hub)
    assert len(checkpoints.weights_fingerprint("owner/model")) == 16
    with pytest.raises(UserError, match="the hub did not give it"):
        pins.record_model("owner/other")


def test_other_weights_than_the_pinned_ones_are_refused(hub: Path) -> None:
    pins.record_model("owner/model")
    (hub / "model.safetensors").write_bytes(b"others")
    with pytest.raises(UserError, match=r"model.safetensors is missing or does not have its pinned sha256"):
        checkpoints.resolve("owner/model")


def test_a_folder_is_no_hub_model(hub: Path) -> None:
    Path("build/model").mkdir(parents=True)
    assert not pins.is_hub_model("build/model") and not pins.is_hub_model("smollm2") and pins.is_hub_model("a/b")
    assert checkpoints.resolve("build/model") == "build/model"
