"""One import direction, held by import-linter: a package imports only what stands to its right in the paper's order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_layer_contract_is_kept(repository: Path) -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()"]
    done = subprocess.run([*command, "--no-cache"], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "1 kept, 0 broken" in done.stdout


def test_no_circles_among_modules() -> None:
    import grimp

    graph = grimp.build_graph("star1lib", cache_dir=None)
    below: dict[str, set[str]] = {name: set(graph.find_modules_directly_imported_by(name)) for name in graph.modules}
    while leaves := {name for name, needs in below.items() if not needs}:
        below = {name: needs - leaves for name, needs in below.items() if name not in leaves}
    # A package imports its own modules for the names it hands on; only such pairs may be left.
    assert not {name for name in below if not any(other.startswith(f"{name}.") for other in graph.modules)}, below
