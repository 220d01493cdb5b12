"""Shared by the tests: where the repository is, where the mirror is (if anywhere), no hub."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The rehearsal model: two layers of random weights with the real tokenizer."""
    from star1lib.models import checkpoints

    return checkpoints.tiny_checkpoint()


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The mirror of the public data; tests that need it are skipped without it."""
    named = os.environ.get("STAR1_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (folder / "MANIFEST.csv").exists():
        pytest.skip("no mirror of the public data: set STAR1_DATA")
    return folder
