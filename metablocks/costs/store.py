"""Counts remembered on disk: one JSON file a version of our sources and of torch, in the user's cache folder.

A cache that cannot be read or written is no cache: counting goes on without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from metablocks.core import cache
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
    """Remembers costs, beside those that are remembered already."""
    cache.add(_file(), {_key(part): dataclasses.asdict(cost) for part, cost in costs.items() if _ours(part)})


def _read() -> dict[str, dict[str, Any]]:
    return cache.read(_file())


def _file() -> str:
    return f"costs-{_sources()[:16]}.json"


def _key(part: Part) -> str:
    return hashlib.sha256(f"{type(part).__name__} {part!r}".encode()).hexdigest()


def _ours(part: Part) -> bool:
    """Not a block whose mixer is another author's: its code may change under the same name."""
    return not isinstance(part, BlockKind) or part.mixer.ours


@lru_cache
def _sources() -> str:
    """Changes with our code and with torch."""
    digest = hashlib.sha256(version("torch").encode())
    for room in _ROOMS:
        for path in sorted((_PACKAGE / room).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
