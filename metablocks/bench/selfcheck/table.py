"""The self-check as a table for people, 80 columns wide, and as plain data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metablocks.bench.selfcheck.check import Check, Proof
from metablocks.core import units
from metablocks.core.text import printable

MARKS = {True: ("ok", "green"), False: ("FAIL", "bold red"), None: ("-", "dim")}
WIDTH = 80

Note = tuple[str, str, str]
"""Key, sentence, style."""


def to_data(proof: Proof) -> dict[str, Any]:
    """The proof as plain data; a check that could not be tried has no `passed`."""
    checks = [{key: value for key, value in asdict(check).items() if value is not None} for check in proof.checks]
    told = {key: value for key, value in asdict(proof).items() if value is not None}
    return {"passed": proof.passed, "failed": proof.failed, "absent": proof.absent} | told | {"checks": checks}


def report(proof: Proof, as_json: bool = False) -> None:
    """Prints the checks, what is to be done, and the conditions; or all of it as JSON."""
    if as_json:
        print(json.dumps(to_data(proof), indent=2, allow_nan=False))
        return
    # neither wider, for it is meant to be pasted, nor narrower, where the columns would be slivers
    console = Console(width=WIDTH, highlight=False, markup=False, emoji=False)
    console.print(_table(proof))
    below = Table.grid(padding=(0, 2, 0, 0))
    below.add_column(no_wrap=True)
    below.add_column(overflow="fold")
    for key, told, style in _notes(proof):
        below.add_row(Text(key, style=style or "dim"), Text(told, style=style))
    console.print()
    console.print(below)


def _table(proof: Proof) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("check", width=17)
    table.add_column("measured", overflow="fold", ratio=1)
    table.add_column("rule", overflow="fold", ratio=1, style="dim")
    for check in proof.checks:
        mark, style = MARKS[check.passed]
        table.add_row(Text(mark, style=style), Text(check.key), Text(_told(check.measured)), Text(check.rule))
    return table


def _notes(proof: Proof) -> Iterator[Note]:
    for check in proof.checks:
        if check.passed is False:
            yield "failed", f"{check.key}: {_told(check.advice)}", "red"
    for check in proof.checks:
        if check.passed is None:
            yield "not run", f"{check.key}: {_told(check.advice)}", ""
    for check in proof.checks:
        if check.first_try is not None:
            yield "again", f"{check.key}: this is the second try; the first one came to: {_told(check.first_try)}", ""
    yield "verdict", _verdict(proof.checks, proof.seconds), "green" if proof.passed else "bold red"
    yield "device", _conditions(proof), ""
    yield "time", proof.time, ""
    if not proof.kept:
        yield "warning", "the verdict is not kept: no writable cache folder; set METABLOCKS_CACHE", "yellow"


def _told(text: str) -> str:
    """Words of a failed worker are among them."""
    return printable(text, limit=0)


def _verdict(checks: tuple[Check, ...], seconds: float) -> str:
    passed, failed = (sum(check.passed is value for check in checks) for value in (True, False))
    absent = len(checks) - passed - failed
    told = [f"{passed} of {len(checks)} passed"]
    told += [f"{failed} failed"] if failed else []
    told += [f"{absent} not run here"] if absent else []
    return f"{', '.join(told)}, in {units.seconds(seconds)}"


def _conditions(proof: Proof) -> str:
    place = proof.environment
    name = f" ({printable(str(place['device_name']))})" if "device_name" in place else ""
    words = [f"{proof.device}{name}"]
    words += [f"{place['cpus']} processors"] if "cpus" in place else []
    words += [f"{place['threads']} threads"] if "threads" in place else []
    words += [f"{key} {printable(str(place[key]))}" for key in ("torch", "python", "metablocks") if key in place]
    words += [f"load {place['load_1min']:g}"] if "load_1min" in place else []
    if proof.foreign_cpu_share is not None:
        words.append(f"other programs took {units.percent(proof.foreign_cpu_share)} of the processors")
    return ", ".join(words)
