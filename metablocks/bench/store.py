"""The results: JSON lines, one record a line, only ever appended to.

A record is one write under a lock on a descriptor that appends, then fsync: two writers never tear each other's lines,
and a writer that is killed leaves at most the start of one line, which readers skip and the next writer ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metablocks.bench.record import SCHEMA, Record, dumps, from_data
from metablocks.core.errors import Fault, StoreError
from metablocks.core.text import printable

HEAD = 1 << 16  # bytes of a file's start that tell whether it holds results


@dataclass(frozen=True)
class Contents:
    """The records of a file, and a sentence for every line that is none."""

    records: tuple[Record, ...]
    warnings: tuple[str, ...]


def check(path: Path) -> None:
    """Raises `StoreError` where `append` could not work. Before anything is measured; writes nothing."""
    shown = printable(str(path), limit=0)
    with _told(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            folder = path.resolve().parent  # of what a link points at
            if not folder.is_dir():
                where = printable(str(folder), limit=0)
                raise StoreError(Fault(f"no folder `{where}` for the results", help="make it")) from None
            if not os.access(folder, os.W_OK | os.X_OK):
                raise StoreError(Fault(f"cannot write in the folder of `{shown}`", help=OTHER)) from None
            return
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no ordinary file"
            raise StoreError(Fault(f"`{shown}` is {kind}", help=OTHER))
        with open(path, "r+b") as file:
            start = file.read(HEAD)
    if start.strip() and not _ours(start):
        raise StoreError(Fault(f"`{shown}` holds no results, so nothing is added to it", help=OTHER))


OTHER = "name another file with --out"


def append(path: Path, record: Record) -> None:
    """Adds a record; when this returns, it is on the disk. Raises `StoreError`, with the file as it was before."""
    line = f"{dumps(record)}\n".encode()
    with _told(path), _locked(path) as descriptor:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        try:
            _write(descriptor, b"\n" + line if torn else line)
            os.fsync(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise


def read(path: Path) -> Contents:
    """The records of a file. What is no record is skipped with a warning. Raises `StoreError` for a newer format."""
    records, warnings = [], []
    shown = printable(str(path), limit=0)
    with _told(path), open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            data = _parsed(line)
            schema = data.get("schema") if data else None
            if isinstance(schema, int) and schema > SCHEMA:
                newer = f"{shown}:{number}: written by a newer metablocks (schema {schema}, this one knows {SCHEMA})"
                raise StoreError(Fault(newer, help="update metablocks"))
            try:
                records.append(from_data(data or {}))
            except ValueError:
                torn = not line.endswith(b"\n")
                what = "the last line is torn: a writer was stopped" if torn else "not a record"
                warnings.append(f"{shown}:{number}: {what}; skipped")
    return Contents(tuple(records), tuple(warnings))


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _ours(start: bytes) -> bool:
    """Whether a file that starts so holds results: the first line is a record, or one that was torn."""
    first = start.lstrip().partition(b"\n")[0]
    data = _parsed(first)
    return isinstance(data.get("schema"), int) if data else first.startswith(b'{"schema": '[: len(first)])


def _write(descriptor: int, line: bytes) -> None:
    """One write; a disk that fills up within it raises at the second."""
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """A descriptor that appends, under an exclusive lock. Closing it unlocks."""
    import fcntl  # not on Windows, where this module must import

    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system says about a file, as one sentence."""
    try:
        yield
    except OSError as error:
        wrong = f"`{printable(str(path), limit=0)}`: {error.strerror or error}"
        raise StoreError(Fault(wrong, help="earlier records are as they were")) from error
