"""Small inputs of the kinds that public bug reports are about, and the shared file of them where it is at hand."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

# Where the shared file's imports have moved to.
MOVED = {
    "chat": "models.chat", "judge": "evaluation.judges", "judging": "evaluation.judges.models", "io": "files",
    "tables": "study.tables", "readers": "collection.readers", "dedup": "collection.dedup",
    "funnel": "collection.decontamination", "embed": "models.embed", "model": "models.checkpoints",
    "roles": "models.roles", "backends": "models.api.backends", "served": "models.api.served",
    "limits": "models.api.limits", "parsing": "models.api.parsing", "engine": "models.api.engine",
    "evaluate": "evaluation.run", "panel": "evaluation.judges", "protocols": "evaluation.settings",
    "confine": "evaluation.sandbox.confine", "wording": "selection.reading", "training_set": "training.rows",
    "standins": "deliberation.teachers", "tasks": "evaluation.benchmarks",
    "tasks.extract": "evaluation.benchmarks.extract", "tasks.equality": "evaluation.benchmarks.equality",
    "tasks.math500": "evaluation.benchmarks.math500", "tasks.humaneval": "evaluation.benchmarks.humaneval",
    "tasks.common": "evaluation.benchmarks.common",
}  # fmt: skip


def shared_cases(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The shared file as a module whose imports find the modules where they are today."""
    import star1lib
    from star1lib.models.api.backends import STANDINS

    for old, new in MOVED.items():
        module = importlib.import_module(f"star1lib.{new}")
        if old in ("panel", "evaluate", "standins"):  # names that changed with the move
            module, real = ModuleType(old), module
            module.__dict__.update(vars(real))
        monkeypatch.setitem(sys.modules, f"star1lib.{old}", module)
        if "." not in old:
            monkeypatch.setattr(star1lib, old, module, raising=False)
    run, judges = sys.modules["star1lib.evaluate"], sys.modules["star1lib.panel"]
    judges.Panel = judges.Judges
    evaluate = run.evaluate
    run.evaluate = lambda *given, panel, **named: evaluate(*given, judges=panel, **named)
    sys.modules["star1lib.standins"].REGISTRY = STANDINS
    spec = importlib.util.spec_from_file_location("public_reports", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shared_file() -> Path | None:
    named = os.environ.get("STAR1_DATA")
    path = Path(named).parent / "cases" / "public_reports.py" if named else None
    return path if path and path.exists() else None


@pytest.mark.skipif(shared_file() is None, reason="the shared cases are not at hand: set STAR1_DATA")
def test_shared_cases(monkeypatch, tmp_path):
    module = shared_cases(shared_file(), monkeypatch)
    passed, total = Counter(), Counter()
    only = os.environ.get("ONLY")
    for number, case in enumerate(module.CASES, 1):
        kind = case["kind"]
        if only and only not in kind:
            continue
        verdict = "PASS"
        module._pair.clear()
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                case["run"]()
        except BaseException as err:
            verdict = f"FAIL {type(err).__name__} {str(err)[:150]}"
        key = "sure" if case["sure"] else "debatable"
        total[key] += 1
        passed[key] += verdict == "PASS"
        if verdict != "PASS":
            print(number, key, kind, "|", repr(case["given"])[:110], "|", verdict)
    print(dict(passed), dict(total))
