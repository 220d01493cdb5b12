"""Shared by the tests: where the repository is, where the mirror is (if anywhere), no hub."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Models of some thousand weights: a second thread would only wait, and a waiting one spins.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A million objects of libraries stay: looking for garbage among them is a tenth of the time.
gc.set_threshold(50_000)

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have every attack carry the name of its family into its report."""
    for item in items:
        if mark := item.get_closest_marker("attack"):
            item.user_properties.append(("family", mark.args[0]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The attacks by family: tried, survived, lost; those that this machine cannot try are not counted."""
    seen: dict[str, dict[str, bool]] = {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            if family := dict(getattr(report, "user_properties", ())).get("family"):
                held = seen.setdefault(str(family), {})
                held[report.nodeid] = held.get(report.nodeid, True) and outcome == "passed"
    if not seen:
        return
    terminalreporter.section("attacks")
    rows = [(family, len(held), sum(held.values())) for family, held in sorted(seen.items())]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    terminalreporter.line(f"{'family':<36} {'tried':>6} {'survived':>9} {'lost':>5}")
    for family, tried, survived in rows:
        terminalreporter.line(f"{family:<36} {tried:>6} {survived:>9} {tried - survived:>5}")


@pytest.fixture(autouse=True, scope="session")
def embedded_once() -> Iterator[None]:
    """A text is embedded once a session: many tests look at the same hand-written corpus."""
    from star1lib.models import embed

    real, known = embed.encode, {}

    def encode(texts: Sequence[str]) -> Any:
        import numpy as np

        fresh = list(dict.fromkeys(text for text in texts if text not in known))
        known.update(zip(fresh, real(fresh), strict=True))
        return np.stack([known[text] for text in texts]) if len(texts) else real([])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "encode", encode)
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The rehearsal model: two layers of random weights with the real tokenizer."""
    from star1lib.models import checkpoints

    return checkpoints.tiny_checkpoint()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A smaller one still, a few thousand weights, for what trains or generates; no test changes it."""
    import tinymodel

    return str(tinymodel.save(tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The mirror of the public data; tests that need it are skipped without it."""
    named = os.environ.get("STAR1_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (folder / "MANIFEST.csv").exists():
        pytest.skip("no mirror of the public data: set STAR1_DATA")
    return folder
