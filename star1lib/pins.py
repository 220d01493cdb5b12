"""Pins of hub datasets: revision, file and sha256, recorded from a user's own access.

`python -m star1lib.pins NAME FILE` asks the hub for the newest revision, fetches FILE at it, and records
its hash in `pins.json` of the cache folder. From then on the set is fetched at that revision and refused
when its content differs. Sets whose pin could be checked when this was written carry it in the table.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from .errors import UserError
from .io import read_json, sha256_file, write_json
from .model import cache_folder
from .records import Record

log = logging.getLogger(__name__)


class Pin(Record):
    """One file of one hub dataset at one revision."""

    revision: str
    file: str
    sha256: str


def path() -> Path:
    """Where recorded pins live."""
    return cache_folder() / "pins.json"


def get(name: str) -> Pin | None:
    """The recorded pin of a set, or None."""
    recorded = read_json(path()) if path().exists() else {}
    return Pin.model_validate(recorded[name]) if name in recorded else None


def record(name: str, file: str) -> Pin:
    """Fetch `file` of the set `name` at the newest revision and record revision and hash."""
    from . import sources

    source = sources.source(name)
    if not source.hub:
        raise UserError(f"{name}: not a hub set; it needs no pin of yours.")
    from huggingface_hub import HfApi, hf_hub_download

    try:
        revision = HfApi().dataset_info(source.hub).sha
        if revision is None:
            raise UserError(f"{name}: the hub names no revision of {source.hub}; try again later.")
        fetched = hf_hub_download(source.hub, file, repo_type="dataset", revision=revision)
    except UserError:
        raise
    except Exception as err:
        how = "check your access, the file's name and the network"
        raise UserError(f"{name}: the hub did not give {file} ({type(err).__name__}); {how}.") from err
    pin = Pin(revision=revision, file=file, sha256=sha256_file(Path(fetched)))
    recorded = read_json(path()) if path().exists() else {}
    write_json(path(), {**recorded, name: pin.model_dump()})
    return pin


def main(arguments: list[str] | None = None) -> int:
    """The command line: record one pin."""
    parser = argparse.ArgumentParser(prog="python -m star1lib.pins", description="record the pin of a hub dataset")
    parser.add_argument("name", help="a name of star1lib.sources.SOURCES")
    parser.add_argument("file", help="the file inside the hub dataset")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        pin = record(args.name, args.file)
    except UserError as err:
        log.error("%s", err)
        return 2
    log.info("%s pinned at revision %s, sha256 %s", args.name, pin.revision, pin.sha256)
    return 0


if __name__ == "__main__":
    sys.exit(main())
