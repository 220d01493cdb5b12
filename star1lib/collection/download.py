"""Where a source's file comes from: the mirror, an installed data package, a pinned repository or hub revision.

Every file has a pinned sha256 and is refused on mismatch. Nothing unpinned is fetched.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from star1lib.errors import UserError
from star1lib.files import sha256_file, verify_manifest
from star1lib.models import checkpoints

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
    from star1lib.collection import pins

    pin = pins.get(source.name)
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
