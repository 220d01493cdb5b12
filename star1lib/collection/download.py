"""Where a source's file comes from: the mirror, an installed data package, a pinned repository or hub revision.

Every file has a pinned sha256 and is refused on mismatch. Nothing unpinned is fetched. Sets whose pin could be
checked when this was written carry it in the table; of other hub sets `python -m star1lib pin NAME FILE...` records
revision and hashes from a user's own access, in `pins.json` of the cache folder.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from star1lib.errors import UserError
from star1lib.files import parse_record, read_json, sha256_file, verify_manifest, write_json
from star1lib.models import checkpoints
from star1lib.records import NonEmpty, Record

if TYPE_CHECKING:
    from star1lib.collection.table import Source


def locate(source: Source, mirror: Path | None) -> list[Path]:
    """The files of `source`, checked; raises :class:`UserError` with how to get them."""
    if mirror is not None and source.mirror:
        path = mirror / source.mirror
        if path.exists():
            return [checked(path, source.sha256, source.name)]
    if source.export:
        return [_exported(source, mirror)]
    if source.package:
        package, version = source.package
        return [checkpoints.package_file(package, version, name) for name in source.files]
    if source.url and source.sha256:
        return [_repository(source)]
    if source.hub:
        return hub_files(source)
    raise UserError(f"{source.name}: {source.how_to_get()}")


def _exported(source: Source, mirror: Path | None) -> Path:
    """A subset that `make export-subsets` wrote, in the build folder or in the mirror, checked by its manifest."""
    for folder in (Path("build/subsets"), *([mirror / "subsets"] if mirror else [])):
        path = folder / source.export
        if path.exists():
            verify_manifest(folder)
            return path
    raise UserError(f"{source.name}: {source.how_to_get()}")


def checked(path: Path, sha256: str, name: str) -> Path:
    """`path` when its content has the pinned hash."""
    if sha256 and sha256_file(path) != sha256:
        raise UserError(f"{name}: {path.name} does not have its pinned sha256; the file is damaged or changed, "
                        "fetch it again.")  # fmt: skip
    return path


def _repository(source: Source) -> Path:
    import pooch

    try:
        return Path(
            pooch.retrieve(
                source.url, known_hash=f"sha256:{source.sha256}", path=checkpoints.cache_folder() / "sources"
            )
        )
    except ValueError as err:
        raise UserError(f"{source.name}: the download does not have its pinned sha256 and was refused.") from err
    except OSError as err:
        raise UserError(f"{source.name}: cannot be fetched ({err}); set STAR1_DATA to a mirror that holds it.") from err
    except Exception as err:
        raise UserError(
            f"{source.name}: cannot be fetched ({type(err).__name__}); set STAR1_DATA to a mirror."
        ) from err


def hub_files(source: Source) -> list[Path]:
    """The hub files that the user has pinned for `source`, fetched at their revision and checked, in pinned order.

    Raises :class:`UserError` without a pin, without a token for a gated set, and on a hash mismatch.
    """
    pin = pin_of(source.name)
    if pin is None:
        raise UserError(f"{source.name}: {source.how_to_get()}")
    if source.gated and not (os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")):
        raise UserError(
            f"{source.name}: the hub set {source.hub} is gated; accept its terms there and export HF_TOKEN."
        )
    from huggingface_hub import hf_hub_download

    try:
        paths = [hf_hub_download(source.hub, file, repo_type="dataset", revision=pin.revision) for file in pin.files]
    except Exception as err:
        raise UserError(f"{source.name}: the hub did not give {source.hub} ({type(err).__name__}); check your access "
                        "and the network, or set STAR1_DATA.") from err  # fmt: skip
    pinned = zip(paths, pin.files.values(), strict=True)
    return [checked(Path(path), sha256, source.name) for path, sha256 in pinned]


class Pin(Record):
    """Files of one hub dataset at one revision, each with its sha256, in the order they are read."""

    revision: NonEmpty
    files: dict[NonEmpty, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = Field(min_length=1)


def pin_of(name: str) -> Pin | None:
    """The recorded pin of a set, or None."""
    recorded = _pins()
    return parse_record(recorded[name], Pin, f"{_pins_path()}, {name}") if name in recorded else None


def _pins_path() -> Path:
    return checkpoints.cache_folder() / "pins.json"


def _pins() -> dict[str, Any]:
    recorded = read_json(_pins_path()) if _pins_path().exists() else {}
    if not isinstance(recorded, dict):
        raise UserError(f"{_pins_path()}: not a table of pins; delete it and record the pins again.")
    return recorded


def record_pin(source: Source, files: Sequence[str]) -> Pin:
    """Fetch `files` (names, or patterns such as 'data/*.parquet') of a hub set at its newest revision; record hashes.

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
    recorded = _pins()
    write_json(_pins_path(), {**recorded, name: pin.model_dump()})
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
