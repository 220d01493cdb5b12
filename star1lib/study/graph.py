"""The make graph, written from what the notebooks really import and the study really needs.

One target per executed notebook. Its prerequisites are the notebook, its parameters, every module
of this library that it imports directly or through another module (read from the syntax tree, so
imports inside functions count), the data such a module owns (`star1lib/assets/`, see `_ASSETS``), and the
executed notebooks of the stages it needs.
"""

from __future__ import annotations

import ast
import functools
import json
import logging
from collections.abc import Iterable
from pathlib import Path

from star1lib.errors import UserError
from star1lib.files import read_json, verify_manifest, write_json, write_text
from star1lib.study import profiles
from star1lib.study import stages as study

log = logging.getLogger(__name__)
PACKAGE = "star1lib"
_ASSETS = {"corpus": "corpus", "offline": "judge", "compare": "paper", "report": "report", "policies": "policies.yaml"}


def imported_modules(source: str, package: tuple[str, ...] = ()) -> set[str]:
    """Dotted names of this library's modules that `source` imports, relative ones resolved against `package`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE}
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = [*package[: len(package) - node.level + 1], *base]
            if base[:1] == [PACKAGE]:
                found.add(".".join(base))
                found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


@functools.lru_cache(maxsize=1024)
def _imports_of(file: Path, package: tuple[str, ...], changed: int) -> frozenset[str]:
    """The imports of a module; `changed`, its time of change, keeps an edited file from being read from memory."""
    return frozenset(imported_modules(file.read_text(encoding="utf-8"), package))


def module_file(name: str, root: Path) -> Path | None:
    """The file of a dotted module name, or None when the name is an attribute and not a module."""
    path = root / Path(*name.split("."))
    if (path / "__init__.py").exists():
        return path / "__init__.py"
    file = path.with_suffix(".py")
    return file if file.exists() else None


def closure(source: str, root: Path) -> set[Path]:
    """Files of this library that running `source` may load: modules, their packages and their data."""
    files: set[Path] = set()
    todo = list(imported_modules(source))
    while todo:
        name = todo.pop()
        file = module_file(name, root)
        if file is None or file in files:
            continue
        files.add(file)
        files |= set(_data_of(file, root))
        relative = file.relative_to(root)
        package = relative.parts[:-1]
        todo += _imports_of(file, package, file.stat().st_mtime_ns)
        todo += _siblings_loaded_by_name(file, root)
    return files


def _data_of(file: Path, root: Path) -> Iterable[Path]:
    if file.stem not in _ASSETS:
        return []
    folder = root / PACKAGE / "assets" / _ASSETS[file.stem]
    if folder.is_file():
        return [folder]
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []


def _siblings_loaded_by_name(file: Path, root: Path) -> list[str]:
    """A package's `__init__` may load its modules by name; then every module of it counts."""
    if file.name != "__init__.py" or file.parent.name != "benchmarks":
        return []
    package = ".".join(file.parent.relative_to(root).parts)
    return [f"{package}.{path.stem}" for path in sorted(file.parent.glob("*.py")) if path.stem != "__init__"]


def notebook_source(notebook: Path) -> str:
    """The code of a notebook's code cells, IPython magics left out."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (OSError, json.JSONDecodeError, KeyError) as err:
        raise UserError(f"{notebook}: not a readable notebook; restore it from the repository.") from err
    lines = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code").split("\n")
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def prerequisites(stage: study.Stage, profile: str, root: Path) -> list[Path]:
    """Everything whose change makes the executed notebook of `stage` stale, relative to `root`."""
    modules = closure(notebook_source(root / stage.notebook), root)
    return [
        stage.notebook,
        params_file(profile, stage.name),
        *sorted(path.relative_to(root) for path in modules),
        *(executed(profile, name) for name in stage.needs),
    ]


def executed(profile: str, stage: str) -> Path:
    """The executed notebook of a stage, relative to the repository."""
    return study.BUILD / profile / "notebooks" / f"{stage}.ipynb"


def params_file(profile: str, stage: str) -> Path:
    """The file with one notebook's parameters, rewritten only when they change."""
    return study.BUILD / profile / "params" / f"{stage}.json"


def forget_damaged(profile: str, root: Path = Path()) -> list[str]:
    """Remove executed notebooks whose stage folder is missing, unfinished or changed; return their stages.

    Make then runs those stages, and what depends on them, again.
    """
    damaged = []
    for stage in study.STAGES:
        copy = root / executed(profile, stage.name)
        if not copy.exists():
            continue
        try:
            verify_manifest(root / study.BUILD / profile / stage.name)
        except UserError as err:
            log.warning("%s (it will run again)", err)
            copy.unlink()
            damaged.append(stage.name)
    return damaged


def write(profile: profiles.Profile, *, mirror: str | None, root: Path = Path()) -> Path:
    """Write the parameter files that changed and `build/<profile>/graph.mk`; return the graph's path."""
    name = profile.name
    forget_damaged(name, root)
    for stage in study.STAGES:
        values = profiles.parameters(profile, stage.name, mirror=mirror, root=root)
        target = root / params_file(name, stage.name)
        if not target.exists() or read_json(target) != values:
            write_json(target, values)
    lines = ["# Written by `python -m star1lib graph`; do not edit.", ""]
    targets = [executed(name, stage.name) for stage in study.STAGES]
    lines += [f"all: {' '.join(map(str, targets))}", ".PHONY: all", ""]
    needed = {stage.name: prerequisites(stage, name, root) for stage in study.STAGES}
    if profile.policies:
        for paths in needed.values():
            if Path(PACKAGE, "policies.py") in paths:
                paths.append(Path(profile.policies))
    for stage, target in zip(study.STAGES, targets, strict=True):
        lines += [
            f"{target}: {' '.join(map(str, needed[stage.name]))}",
            f"\t@$(PYTHON) -m star1lib run --profile {name} {stage.name}",
            "",
        ]
    # A module that a fresh checkout no longer has must not stop make with "no rule".
    sources = sorted({str(path) for paths in needed.values() for path in paths})
    lines += [f"{path}:" for path in sources if path not in {str(target) for target in targets}]
    path = root / study.BUILD / name / "graph.mk"
    text = "\n".join(lines) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return path
