"""The verdict of the last self-check, kept in the user's cache folder, one for each set of conditions.

Without that folder nothing is kept, and records say nothing of a self-check.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from metablocks.bench.environment import fingerprint
from metablocks.bench.selfcheck.check import Proof

KEPT = 50  # sets of conditions; the oldest is forgotten
PEERS = ("timm", "torchvision")


def conditions(environment: Mapping[str, Any]) -> str:
    """What a record's environment must share with that of a self-check: all but whose network it is."""
    return fingerprint({key: value for key, value in environment.items() if key not in PEERS})


def remember(proof: Proof) -> Proof:
    """Keeps the verdict of a self-check; `kept` tells whether. The file is replaced whole, so it is never torn."""
    known = _read()
    key = conditions(proof.environment)
    known.pop(key, None)
    known[key] = {
        "passed": proof.passed,
        "time": proof.time,
        "device": proof.device,
        "failed": list(proof.failed),
        "absent": list(proof.absent),
        "seconds": proof.seconds,
    }
    path = _path()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            json.dump(dict(list(known.items())[-KEPT:]), file, indent=1)
        os.replace(file.name, path)
        return replace(proof, kept=True)
    return proof


def last_verdict(conditions: str) -> dict[str, Any] | None:
    """The verdict of the last self-check under these conditions; None where there was none."""
    found = _read().get(conditions)
    return found if isinstance(found, dict) and isinstance(found.get("passed"), bool) else None


def last_told(environment: Mapping[str, Any], device: str) -> str | None:
    """The same for a record, in words: `passed 2026-01-01T00:00:00+00:00`, or `failed S14 noise, 2026-...`."""
    found = last_verdict(conditions(environment)) if environment else None
    if found is None or found.get("device") != device:
        return None
    failed = ", ".join(map(str, found.get("failed", ())))
    time = str(found.get("time", ""))
    return f"passed {time}" if found["passed"] else f"failed {failed}, {time}"


def _read() -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        known = json.loads(_path().read_text(encoding="utf-8"))
        return known if isinstance(known, dict) else {}
    return {}


def _path() -> Path:
    home = os.environ.get("METABLOCKS_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(home) / "metablocks" / "self-check.json"
