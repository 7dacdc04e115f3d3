"""Counts remembered on disk: one JSON file a version of our sources and of torch, in the user's cache folder.

A cache that cannot be read or written is no cache: counting goes on without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from metablocks.costs.nouns import Cost
from metablocks.plan import BlockKind, Part

_PACKAGE = Path(__file__).resolve().parents[1]
_ROOMS = ("core", "kernels", "parts", "mixers", "nets", "costs")


def load(parts: Iterable[Part]) -> dict[Part, Cost]:
    """The parts among `parts` whose costs are remembered."""
    known = _read()
    found = {}
    for part in filter(_ours, parts):
        entry = known.get(_key(part))
        if entry is not None:
            with contextlib.suppress(TypeError, KeyError):
                found[part] = Cost(**{**entry, "unknown": tuple(entry["unknown"])})
    return found


def save(costs: Mapping[Part, Cost]) -> None:
    """Remembers costs, beside those that are remembered already. The file is replaced whole, so none is ever torn."""
    entries = _read() | {_key(part): dataclasses.asdict(cost) for part, cost in costs.items() if _ours(part)}
    path = _path()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            json.dump(entries, file)
        os.replace(file.name, path)


def _read() -> dict[str, dict[str, Any]]:
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(_path().read_text())
        return known if isinstance(known, dict) else {}
    return {}


def _path() -> Path:
    home = os.environ.get("METABLOCKS_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(home) / "metablocks" / f"costs-{_sources()[:16]}.json"


def _key(part: Part) -> str:
    return hashlib.sha256(f"{type(part).__name__} {part!r}".encode()).hexdigest()


def _ours(part: Part) -> bool:
    """Not a block whose mixer is another author's: its code may change under the same name."""
    return not isinstance(part, BlockKind) or part.mixer.ours


@cache
def _sources() -> str:
    """Changes with our code and with torch."""
    digest = hashlib.sha256(version("torch").encode())
    for room in _ROOMS:
        for path in sorted((_PACKAGE / room).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
