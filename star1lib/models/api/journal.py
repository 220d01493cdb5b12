"""The journal: every answer on disk the moment it arrives, found again by the content of its request.

One JSON object per line, each written by a single append, so that a kill at any point costs at most
the line being written; such a torn line is cut off when the journal is next opened. Answers stay on
disk and only their places are kept in memory. One run at a time holds a journal.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from star1lib.errors import UserError

log = logging.getLogger(__name__)

FINAL = frozenset({"ok", "cut_off", "filtered"})


def request_key(prefix: str, messages: list[dict[str, str]], schema: dict[str, Any] | None, sample: int) -> str:
    """32 hex digits naming a request by content; `prefix` stands for role, model and settings (:func:`key_prefix`)."""
    content = json.dumps([messages, schema, sample], sort_keys=True)
    return hashlib.sha256(f"{prefix}\n{content}".encode()).hexdigest()[:32]


def key_prefix(role: str, model: str, identity: str, settings: Mapping[str, Any]) -> str:
    """The part of a request's key that all requests of a role share; `identity` names local weights or code."""
    return json.dumps([role, model, identity, dict(settings)], sort_keys=True, default=str)


class Journal:
    """The answers of earlier and present runs in `path`; a context manager that locks the file.

    Raises :class:`UserError` when the file cannot be opened, another run holds it, or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        self._places: dict[str, tuple[int, int]] = {}
        self._errors: dict[str, tuple[int, int]] = {}
        self._spent: dict[str, float] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as err:
            raise UserError(f"{path}: the journal cannot be opened ({err.strerror}); choose another folder.") from err
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            os.close(self._fd)
            raise UserError(f"{path}: another run is writing this journal; wait for it or stop it first.") from err
        except OSError:
            log.warning("%s: this file system has no locks; let one run at a time write here", path.name)
        self._end = self._load()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Flush to disk and release the lock."""
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> dict[str, Any] | None:
        """The paid-for answer to `key`, or None when it has yet to be asked."""
        place = self._places.get(key)
        return None if place is None else self._read(place)

    def errors(self) -> Iterator[dict[str, Any]]:
        """The last failure of every request that has no answer yet."""
        for place in self._errors.values():
            yield self._read(place)

    def spent(self, role: str) -> float:
        """USD that `role` has cost so far, failures included."""
        return self._spent.get(role, 0.0)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record (with at least `key`, `role`, `outcome`, `cost_usd`) by a single append."""
        # ASCII escapes keep lone surrogates and line separators of model text out of the file.
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        try:
            if (written := os.write(self._fd, line)) != len(line):
                raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes were written")
        except OSError as err:
            os.ftruncate(self._fd, self._end)
            raise UserError(
                f"{self.path}: an answer cannot be written ({err.strerror}); free some space and run again, "
                "everything before it is kept."
            ) from err
        self._note(record, self._end, len(line))
        self._end += len(line)

    def _read(self, place: tuple[int, int]) -> dict[str, Any]:
        offset, length = place
        value: dict[str, Any] = json.loads(os.pread(self._fd, length, offset))
        return value

    def _note(self, record: Mapping[str, Any], offset: int, length: int) -> None:
        key, role = str(record["key"]), str(record.get("role", ""))
        self._spent[role] = self._spent.get(role, 0.0) + float(record.get("cost_usd") or 0.0)
        if record.get("outcome") in FINAL:
            self._places[key] = (offset, length)
            self._errors.pop(key, None)
        elif key not in self._places:
            self._errors[key] = (offset, length)

    def _load(self) -> int:
        """Index the file and repair its end; returns its length in bytes."""
        offset = 0
        with open(self._fd, "rb", closefd=False) as handle:
            for line in handle:
                record = _record(line)
                if not line.endswith(b"\n"):
                    if record is None:
                        log.warning("%s: a torn last line was removed", self.path.name)
                        os.ftruncate(self._fd, offset)
                        break
                    os.write(self._fd, b"\n")
                    line += b"\n"
                if record is None:
                    self.damaged += bool(line.strip())
                else:
                    self._note(record, offset, len(line))
                offset += len(line)
        if self.damaged:
            log.warning("%s: %d damaged lines are ignored and asked again", self.path.name, self.damaged)
        return offset


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    good = isinstance(value, dict) and isinstance(value.get("key"), str) and isinstance(value.get("outcome"), str)
    return value if good and isinstance(value.get("cost_usd", 0.0), int | float) else None
