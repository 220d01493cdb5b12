"""The one exception that users see: a sentence that names the file, the field and the remedy."""

from __future__ import annotations


class UserError(Exception):
    """Bad input or environment. The message is one clear sentence and carries no traceback."""


def shorten(text: str, width: int = 60) -> str:
    """`text` on one line, at most `width` characters, for error messages and logs."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
