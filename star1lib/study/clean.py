"""Removing a profile's build, after asking about what was paid for in hours or money."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

from star1lib.errors import UserError
from star1lib.files import plain_name
from star1lib.study import stages

log = logging.getLogger(__name__)


def precious(build: Path) -> list[Path]:
    """Folders under `build` that cost training hours or paid calls: trained models and folders of paid answers."""
    models = [path for where in ("models/*", "*/models/*") for path in build.glob(where) if path.is_dir()]
    return sorted(models) + sorted(build.glob("**/answers.jsonl"))


def clean(profile: str, *, assume_yes: bool = False, root: Path = Path()) -> None:
    """Remove `build/<profile>`; trained models and paid answers only after a yes.

    Without a terminal to ask at and without `assume_yes`, they are kept and a :class:`UserError` says so.
    """
    build = root / stages.BUILD / plain_name(profile, "profile")
    if build.is_symlink():
        raise UserError(f"{build}: it is a link to a folder elsewhere, which is not removed from here; remove it by "
                        "hand.")  # fmt: skip
    if not build.exists():
        log.info("%s: nothing to remove", build)
        return
    dear = precious(build)
    if dear and not assume_yes and not _agreed(build, dear):
        raise UserError(f"{build}: kept, because it holds {len(dear)} trained models or folders of paid answers.")
    shutil.rmtree(build)
    log.info("%s removed", build)


def _agreed(build: Path, dear: list[Path]) -> bool:
    if not sys.stdin.isatty():
        raise UserError(
            f"{build}: it holds {len(dear)} trained models or paid answers and there is no terminal to ask at; "
            "use `make clean YES=1` to remove them all the same."
        )
    listing = "\n".join(f"  {path}" for path in dear)
    sys.stderr.write(f"{listing}\nRemove these trained models and paid-for responses? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
