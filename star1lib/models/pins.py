"""What came from the hub, held to one revision: `pins.json` of the cache folder, written from a user's own access.

Nothing unpinned is fetched. A pin names a revision and the sha256 of each file; it is recorded once
(`python -m star1lib pin`, `make pins`), and what is fetched later has to fit it.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from star1lib.errors import UserError
from star1lib.files import parse_record, read_json, sha256_file, write_json
from star1lib.records import NonEmpty, Record

_MODEL = "model:"  # before a model's name in the table, so that a data set may have the same one
_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt")
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Pin(Record):
    """Files of one hub repository at one revision, each with its sha256, in the order they are read."""

    revision: NonEmpty
    files: dict[NonEmpty, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = Field(min_length=1)


def cache_folder() -> Path:
    """Where pins and converted models live: `STAR1_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("STAR1_CACHE") or Path.home() / ".cache" / "star1")


def _path() -> Path:
    return cache_folder() / "pins.json"


def _table() -> dict[str, Any]:
    recorded = read_json(_path()) if _path().exists() else {}
    if not isinstance(recorded, dict):
        raise UserError(f"{_path()}: not a table of pins; delete it and record the pins again.")
    return recorded


def pin_of(name: str) -> Pin | None:
    """The recorded pin of a set, or None."""
    recorded = _table()
    return parse_record(recorded[name], Pin, f"{_path()}, {name}") if name in recorded else None


def record(name: str, pin: Pin) -> Pin:
    """Keep `pin` under `name`."""
    write_json(_path(), {**_table(), name: pin.model_dump()})
    return pin


def is_hub_model(name: str) -> bool:
    """True for the form of a hub id, `owner/model`, where there is no such folder."""
    return bool(_ID.fullmatch(name)) and not Path(name).exists()


def model_folder(name: str, weights: bool = True) -> Path:
    """The folder of a hub model at its pinned revision, fetched where it is not there yet and checked once.

    Without `weights` only what stands beside them is fetched.

    Raises :class:`UserError` without a pin, when the hub refuses, and when a file does not have its pinned hash.
    """
    pin = pin_of(_MODEL + name)
    if pin is None:
        raise UserError(
            f"model '{name}': no folder here, and no pin of a hub model recorded; with access to the hub, record "
            f"revision and hashes once by `python -m star1lib pin-model {name}` or `make pins`."
        )
    from huggingface_hub import snapshot_download

    try:
        offline = os.environ.get("HF_HUB_OFFLINE") == "1"
        wanted = [file for file in pin.files if weights or not file.endswith(".safetensors")]
        fetched = snapshot_download(name, revision=pin.revision, allow_patterns=wanted, local_files_only=offline)
    except Exception as err:
        raise UserError(f"model '{name}': the hub did not give revision {pin.revision[:12]} ({type(err).__name__}); "
                        "check your access, the network and the disk.") from err  # fmt: skip
    folder = Path(fetched)
    checked = cache_folder() / "checked" / f"{name.replace('/', '--')}@{pin.revision}"
    if weights and not checked.exists():  # hashing tens of gigabytes takes minutes
        for file, sha256 in pin.files.items():
            if not (folder / file).exists() or sha256_file(folder / file) != sha256:
                raise UserError(f"model '{name}': {file} is missing or does not have its pinned sha256; delete "
                                f"{folder} and fetch it again.")  # fmt: skip
        checked.parent.mkdir(parents=True, exist_ok=True)
        checked.touch()
    return folder


def record_model(name: str) -> Pin:
    """Record the newest revision of a hub model; :class:`UserError` when the hub refuses or names no weights."""
    pin = newest(name, "model", _FILES)
    if not any(file.endswith(".safetensors") for file in pin.files):
        raise UserError(f"model '{name}': the hub names no safetensors weights; name another model.")
    return record(_MODEL + name, pin)


def newest(name: str, kind: str, patterns: Sequence[str]) -> Pin:
    """The files of a hub repository that `patterns` name, pattern by pattern, at its newest revision.

    Hashes of large files are as the hub states them, of small ones as read. Raises :class:`UserError` when the hub
    refuses, and where no file has the name.
    """
    from huggingface_hub import HfApi, hf_hub_download

    try:
        facts: Any = HfApi().repo_info(name, repo_type=kind, files_metadata=True)
        there = {file.rfilename: file.lfs for file in facts.siblings or []}
        chosen = dict.fromkeys(file for pattern in patterns for file in sorted(fnmatch.filter(there, pattern)))
        hashes = {
            file: str(lfs["sha256"]) if (lfs := there[file]) else
            sha256_file(Path(hf_hub_download(name, file, repo_type=kind, revision=facts.sha)))
            for file in chosen
        }  # fmt: skip
    except Exception as err:
        raise UserError(f"{name}: the hub did not give it ({type(err).__name__}); check your access and the "
                        "network.") from err  # fmt: skip
    if not facts.sha or not hashes:
        raise UserError(f"{name}: no file {' or '.join(map(repr, patterns))} at a revision of the hub; there are: "
                        f"{', '.join(sorted(there)[:12])}.")  # fmt: skip
    return Pin(revision=facts.sha, files=hashes)
