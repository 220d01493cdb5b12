"""Where a source's file comes from: the mirror, an installed data package, a pinned repository or hub revision.

Every file has a pinned sha256 and is refused on mismatch. Nothing unpinned is fetched. Sets whose pin could be
checked when this was written carry it in the table; of other hub sets `python -m star1lib pin NAME FILE...` records
revision and hashes from a user's own access, in `pins.json` of the cache folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from star1lib.collection.table import Source
from star1lib.errors import UserError
from star1lib.files import sha256_file, verify_manifest
from star1lib.models import checkpoints, pins
from star1lib.models.pins import Pin


def locate(source: Source, mirror: Path | None) -> list[Path]:
    """The files of `source`, checked; raises :class:`UserError` with how to get them."""
    if mirror is not None and source.mirror:
        path = mirror / source.mirror
        if path.exists():
            return [checked(path, source.sha256, source.name, source.blob)]
    if source.export:
        return [_exported(source, mirror)]
    if source.package:
        package, version = source.package
        return [checkpoints.package_file(package, version, name) for name in source.files]
    if source.url and (source.sha256 or source.blob):
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


def checked(path: Path, sha256: str, name: str, blob: str = "") -> Path:
    """`path` when its content has the pinned hash, or the pinned id that git gives it."""
    if (sha256 and sha256_file(path) != sha256) or (blob and _blob_id(path) != blob):
        pin = "sha256" if sha256 else "id in git"
        raise UserError(f"{name}: {path.name} does not have its pinned {pin}; the file is damaged or changed, "
                        "fetch it again.")  # fmt: skip
    return path


def _blob_id(path: Path) -> str:
    """The id of the file's content in git."""
    content = path.read_bytes()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def _repository(source: Source) -> Path:
    import pooch

    known = f"sha256:{source.sha256}" if source.sha256 else None
    try:
        file = pooch.retrieve(source.url, known_hash=known, path=checkpoints.cache_folder() / "sources")
    except ValueError as err:
        raise UserError(f"{source.name}: the download does not have its pinned sha256 and was refused.") from err
    except Exception as err:
        reason = err if isinstance(err, OSError) else type(err).__name__
        raise UserError(
            f"{source.name}: cannot be fetched ({reason}); set STAR1_DATA to a mirror that holds it."
        ) from err
    return checked(Path(file), source.sha256, source.name, source.blob)


def hub_files(source: Source) -> list[Path]:
    """The hub files that the user has pinned for `source`, fetched at their revision and checked, in pinned order.

    Raises :class:`UserError` without a pin, without a token for a gated set, and on a hash mismatch.
    """
    pin = pins.pin_of(source.name)
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


def record_pin(source: Source, files: Sequence[str]) -> Pin:
    """Record the newest revision and the hashes of `files` (names, or patterns such as 'data/*.parquet') of a hub set.

    Raises :class:`UserError` when the set is not on the hub, a pattern matches nothing, or the hub refuses.
    """
    if not source.hub:
        raise UserError(f"{source.name}: not a hub set; it needs no pin of yours.")
    found = [pins.newest(source.hub, "dataset", [pattern]) for pattern in files]
    merged = {file: sha256 for pin in found for file, sha256 in pin.files.items()}
    return pins.record(source.name, Pin(revision=found[0].revision, files=merged))
