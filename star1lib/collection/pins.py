"""Pins of hub datasets: revision, files and their sha256, recorded from a user's own access.

`python -m star1lib pin NAME FILE...` asks the hub for the newest revision, fetches the files at it
(a FILE may be a pattern such as 'data/*.parquet'), and records their hashes in `pins.json` of the cache folder.
From then on the set is fetched at that revision and refused when its content differs. Sets whose pin could be
checked when this was written carry it in the table.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from star1lib.collection.table import Source
from star1lib.errors import UserError
from star1lib.files import read_json, sha256_file, write_json
from star1lib.models.checkpoints import cache_folder
from star1lib.records import Record


class Pin(Record):
    """Files of one hub dataset at one revision, each with its sha256, in the order they are read."""

    revision: str
    files: dict[str, str]


def path() -> Path:
    """Where recorded pins live."""
    return cache_folder() / "pins.json"


def get(name: str) -> Pin | None:
    """The recorded pin of a set, or None."""
    recorded = read_json(path()) if path().exists() else {}
    return Pin.model_validate(recorded[name]) if name in recorded else None


def record(source: Source, files: Sequence[str]) -> Pin:
    """Fetch `files` (names or patterns) of the set `source` at the newest revision; record revision and hashes.

    Raises :class:`UserError` when the set is not on the hub, a pattern matches nothing, or the hub refuses.
    """
    name = source.name
    if not source.hub:
        raise UserError(f"{name}: not a hub set; it needs no pin of yours.")
    from huggingface_hub import HfApi, hf_hub_download

    try:
        facts = HfApi().dataset_info(source.hub)
        revision = facts.sha
        if revision is None:
            raise UserError(f"{name}: the hub names no revision of {source.hub}; try again later.")
        chosen = _matching(name, files, [sibling.rfilename for sibling in facts.siblings or []])
        hashes = {
            file: sha256_file(Path(hf_hub_download(source.hub, file, repo_type="dataset", revision=revision)))
            for file in chosen
        }
    except UserError:
        raise
    except Exception as err:
        how = "check your access and the network"
        raise UserError(f"{name}: the hub did not give {source.hub} ({type(err).__name__}); {how}.") from err
    pin = Pin(revision=revision, files=hashes)
    recorded = read_json(path()) if path().exists() else {}
    write_json(path(), {**recorded, name: pin.model_dump()})
    return pin


def _matching(name: str, patterns: Sequence[str], there: Sequence[str]) -> list[str]:
    """The files that the patterns name, pattern by pattern, in the order of their names."""
    chosen: dict[str, None] = {}
    for pattern in patterns:
        found = sorted(fnmatch.filter(there, pattern))
        if not found:
            raise UserError(f"{name}: no file '{pattern}' in the hub set; there are: {', '.join(sorted(there)[:12])}.")
        chosen.update(dict.fromkeys(found))
    return list(chosen)
