"""What became of calls to a model, on disk as it comes, and what may still be spent."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from star1lib.errors import UserError

log = logging.getLogger(__name__)
# Only `ok` is a success. The first four were paid for and are kept; the others are tried again by the next run.
Outcome = Literal["ok", "cut_off", "filtered", "empty", "error", "withheld", "not_sent"]
Tokens = Annotated[int, Field(ge=0, lt=1 << 53)]
Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request; `text` is the answer after the thinking, `error` says why `outcome` is not `ok`."""

    id: str
    outcome: Outcome
    text: str = ""
    thinking: str = ""
    error: str | None = None
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cost_usd: Usd = 0.0


_KEY, _USD, _REPLY = TypeAdapter(str), TypeAdapter(Usd), TypeAdapter(Reply)


class Book:
    """`answers.jsonl` of a folder: answers stay on disk, their places in memory.

    For one process at a time (:func:`star1lib.files.lock`). `spent` is in USD, calls without an answer included. A
    line that a kill cut short is asked for again; a damaged one too, with a warning.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "answers.jsonl"
        self.spent = 0.0
        self._places: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> Book:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as err:
            raise UserError(f"{self.path}: cannot be opened ({err.strerror}); choose another folder.") from err
        self._end = damaged = 0
        with open(self._fd, "rb", closefd=False) as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    os.ftruncate(self._fd, self._end)
                    break
                damaged += not self._note(line)
        if damaged:
            log.warning("%s: %d damaged lines are ignored and asked again", self.path, damaged)
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._fd)
        os.close(self._fd)

    def _note(self, line: bytes) -> bool:
        start, self._end = self._end, self._end + len(line)
        try:
            row = json.loads(line)
            key, cost = _KEY.validate_python(row["key"]), _USD.validate_python(row["cost_usd"])
            if key:
                _REPLY.validate_python({name: row[name] for name in Reply.__slots__})
                self._places[key] = (start, len(line))
        except (ValidationError, ValueError, KeyError, TypeError, RecursionError):
            return False
        self.spent += cost
        return True

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str) -> Reply | None:
        """An answer, or None when it has yet to be asked for."""
        if (place := self._places.get(key)) is None:
            return None
        row = json.loads(os.pread(self._fd, place[1], place[0]))
        return _REPLY.validate_python({name: row[name] for name in Reply.__slots__})

    def append(self, row: Mapping[str, Any]) -> None:
        """One row by one write; without a key it says what was spent in vain."""
        # ASCII escapes keep line ends and lone surrogates of model text out of the file.
        line = json.dumps(row).encode() + b"\n"
        try:
            if os.write(self._fd, line) != len(line):
                raise OSError(errno.ENOSPC, "no space left")
        except OSError as err:
            os.ftruncate(self._fd, self._end)
            raise UserError(
                f"{self.path}: an answer cannot be written ({err.strerror}); free some space and run again, "
                "everything before it is kept."
            ) from err
        self._note(line)


class Budget:
    """Spending in USD that never passes `limit`: the worst case of a call is held back before it is sent."""

    def __init__(self, limit: float | None, spent: float) -> None:
        self.limit, self.spent, self.held = limit, spent, 0.0
        self._changed = asyncio.Event()

    def fits(self, amount: float) -> bool:
        """True when `amount` more may be spent."""
        return self.limit is None or self.spent + self.held + amount <= self.limit + 1e-12

    async def hold(self, amount: float) -> bool:
        """Hold `amount` back, waiting for calls in flight to turn out cheaper; False when that cannot help."""
        while not self.fits(amount):
            if self.held <= 0:
                return False
            self._changed.clear()
            await self._changed.wait()
        self.held += amount
        return True

    def release(self, amount: float) -> None:
        """Give back what was held; what the call has cost is in `spent` by then."""
        self.held = max(0.0, self.held - amount)
        self._changed.set()
