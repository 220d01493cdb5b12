"""Files between stages: JSONL with a checked schema, written atomically, manifest last.

A stage writes its files through :func:`write_jsonl` / :func:`write_json` (a temporary sibling,
then one rename) and finishes with :func:`write_manifest`. A folder without a manifest is an
unfinished stage; a manifest whose hashes no longer fit its files is refused.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from star1lib.errors import UserError
from star1lib.records import first_error

MANIFEST = "manifest.json"
PART = ".part"  # in the name of a file that is not whole yet
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
RecordT = TypeVar("RecordT", bound=BaseModel)


def asset(name: str) -> Any:
    """The content of a YAML file of `star1lib/assets`."""
    return yaml.safe_load((Path(__file__).parent / "assets" / name).read_text(encoding="utf-8"))


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file."""
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as err:
        raise UserError(f"{path}: cannot be read ({err.strerror}); restore the file or its permissions.") from err


def fingerprint(value: Any) -> str:
    """16 hex digits of the canonical JSON of `value`: equal content, equal fingerprint."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain_name(name: str, what: str) -> str:
    """`name` when it can be the name of a file and nothing else; :class:`UserError` naming `what` it should be."""
    if not _PLAIN.fullmatch(name):
        raise UserError(f"{what} '{name}': letters, digits, '_', '-' and '.' make a name, and no path; choose another.")
    return name


def sweep(folder: Path) -> int:
    """Remove what earlier kills left half-written under `folder`; returns how many files."""
    parts = [path for path in folder.rglob(f".*{PART}*") if path.is_file()]
    for path in parts:
        path.unlink(missing_ok=True)
    return len(parts)


@contextlib.contextmanager
def lock(folder: Path, work: str) -> Iterator[None]:
    """Hold `folder` for `work`; :class:`UserError` naming who holds it already. A dead holder's lock is free."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as handle:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            handle.seek(0)
            holder = handle.read().strip() or "another run"
            raise UserError(f"{folder}: {holder} is working here; wait for it or stop it, then run again.") from err
        except (ImportError, OSError):
            pass  # a system or a file system without locks
        handle.truncate(0)
        handle.write(f"process {os.getpid()} ({work})")
        handle.flush()
        yield


@contextlib.contextmanager
def atomic_path(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a temporary sibling of `path`; rename it over `path` on success, remove it on any failure.

    `suffix` ends the temporary name, for writers that look at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}{suffix}")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # as the umask wants it
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())  # a full disk may show only here
        temporary.replace(path)
    except OSError as err:
        if err.errno in _FULL:
            raise UserError(
                f"{path}: the disk is full, nothing was written; free some space and run the same command again."
            ) from err
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write `text` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as indented JSON, atomically."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as err:
        raise UserError(f"{path}: the file is missing; run the stage that writes it (`make reproduce`).") from err
    except (OSError, UnicodeDecodeError) as err:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({err}); restore it and rerun.") from err


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as err:
        raise UserError(f"{where}: not valid JSON ({err}); it is truncated or damaged, delete it and rerun.") from err


def read_json(path: Path) -> Any:
    """Read one JSON value; a missing or broken file is a :class:`UserError`."""
    return _json(_text(path), str(path))


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any] | BaseModel]) -> int:
    """Write one JSON object per line, atomically; return the number of lines."""
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for record in records:
            value = record.model_dump() if isinstance(record, BaseModel) else dict(record)
            handle.write(_line(value) + "\n")
            count += 1
    return count


def _line(value: Mapping[str, Any]) -> str:
    line = json.dumps(value, ensure_ascii=False)
    # Half of a surrogate pair has no bytes of its own; as an escape it can be kept.
    return json.dumps(value) if any("\ud800" <= letter <= "\udfff" for letter in line) else line


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file into dicts; a broken line is named by its number."""
    rows: list[dict[str, Any]] = []
    # Not splitlines(): a JSON string may hold U+2028 and its like unescaped.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        row = _json(line, f"{path}, line {number}")
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: a JSON object was expected, not {type(row).__name__}.")
        rows.append(row)
    return rows


def read_records(path: Path, model: type[RecordT]) -> list[RecordT]:
    """Read a JSONL file and check every row against `model`; the first bad row is named."""
    return [parse_record(row, model, f"{path}, line {i}") for i, row in enumerate(read_jsonl(path), start=1)]


def parse_record(row: Mapping[str, Any], model: type[RecordT], where: str) -> RecordT:
    """Validate one row; raise a :class:`UserError` naming the place and the field."""
    try:
        return model.model_validate(row)
    except ValidationError as err:
        raise UserError(f"{where}: {first_error(err)}; correct the row and rerun.") from err


def listing(folder: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Hash and size of each of `files`, by its path under `folder`."""
    return {
        str(path.relative_to(folder)): {"sha256": sha256_file(path), "bytes": path.stat().st_size} for path in files
    }


def check_listing(folder: Path, listed: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise :class:`UserError` naming the first file of a :func:`listing` that is missing or has other content."""
    for name, facts in listed.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != facts["sha256"]:
            raise UserError(f"{path}: missing or changed since it was written; delete {folder} and rerun.")


def write_manifest(folder: Path, files: Iterable[Path], **facts: Any) -> Path:
    """Write `folder/manifest.json` with the hash and size of each file and `facts`; call it last."""
    return write_json(folder / MANIFEST, {**facts, "files": listing(folder, files)})


def write_stage(folder: Path, files: Mapping[str, Any], **facts: Any) -> Path:
    """Write a stage's folder: each `.jsonl` of `files` as records, each `.json` as a value, then the manifest."""
    for name, content in files.items():
        if name.endswith(".jsonl"):
            write_jsonl(folder / name, content)
        else:
            write_json(folder / name, content)
    return write_manifest(folder, [folder / name for name in files], **facts)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of `folder`, or None when the stage never finished; :class:`UserError` when it is none."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    manifest = read_json(path)
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(listed, dict) or not all(
        isinstance(f, dict) and {"sha256", "bytes"} <= set(f) for f in listed.values()
    ):
        raise UserError(f"{path}: lists no files with their hashes; it is damaged, delete it and rerun.")
    return manifest


def verify_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of `folder` after checking that its files exist and still have their hashes."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"{folder}: no {MANIFEST}, so the stage did not finish; run `make reproduce` to complete it.")
    check_listing(folder, manifest["files"])
    return manifest
