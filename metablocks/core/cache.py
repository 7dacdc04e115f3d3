"""Small facts remembered on disk, in the user's cache folder: a JSON file of entries by key.

A cache that cannot be read or written is no cache: everything goes on without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read(name: str) -> dict[str, Any]:
    """The entries of a file; none where it is not there, or is not such a file."""
    with contextlib.suppress(OSError, ValueError):
        known = json.loads((folder() / name).read_text(encoding="utf-8"))
        return known if isinstance(known, dict) else {}
    return {}


def add(name: str, entries: Mapping[str, Any]) -> None:
    """Adds entries to those of a file. It is replaced whole, so none is ever torn."""
    made = read(name) | dict(entries)
    with contextlib.suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder(), suffix=".tmp", delete=False, encoding="utf-8") as file:
            json.dump(made, file)
        os.replace(file.name, folder() / name)


def folder() -> Path:
    """The cache folder: of `METABLOCKS_CACHE`, or `XDG_CACHE_HOME`, or the user's."""
    home = os.environ.get("METABLOCKS_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "metablocks"
