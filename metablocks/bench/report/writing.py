"""An export on the disk: there whole or as it was before, never in between."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metablocks.core.errors import Fault, StoreError
from metablocks.core.text import printable

OTHER = "name a file in a folder that is there and that you may write in"


def check(path: Path) -> None:
    """Raises `StoreError` where `write` could not work. Writes nothing."""
    with _told(path):
        if path.is_dir():
            raise StoreError(Fault(f"`{_shown(path)}` is a folder", help=OTHER))
        folder = path.resolve().parent  # of what a link points at
        if not folder.is_dir():
            raise StoreError(Fault(f"no folder `{_shown(folder)}` for `{_shown(path)}`", help=OTHER))
        if not _passes_through(path) and not os.access(folder, os.W_OK | os.X_OK):
            raise StoreError(Fault(f"cannot write in the folder of `{_shown(path)}`", help=OTHER))


def write(path: Path, text: str) -> None:
    """Writes UTF-8 beside the file, then puts it in the file's place. Raises `StoreError`, with the file as it was."""
    with _told(path):
        if _passes_through(path):
            path.write_text(text, encoding="utf-8")
            return
        target = path.resolve()
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:80]}.", suffix=".part")
        try:
            with open(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, _mode(target))
            os.replace(name, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def _passes_through(path: Path) -> bool:
    """Whether it is a pipe or a device, which nothing may be put in the place of."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _mode(target: Path) -> int:
    """Who may read it: as before, or as for any new file. A temporary file is for its owner alone."""
    with contextlib.suppress(FileNotFoundError):
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system says about a file, as one sentence."""
    try:
        yield
    except OSError as error:
        raise StoreError(Fault(f"`{_shown(path)}`: {error.strerror or error}", help=OTHER)) from error


def _shown(path: Path) -> str:
    return printable(str(path), limit=0)
