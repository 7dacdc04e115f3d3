"""Records as Markdown: one table, the comparisons, and what stands behind them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from metablocks.bench.record import Record
from metablocks.bench.report.conditions import conditions
from metablocks.bench.report.facts import label, sound, varied, warnings
from metablocks.bench.report.pairs import Pair, bounds, pairs
from metablocks.core import units
from metablocks.core.text import printable
from metablocks.core.units import ratio

SPECIAL = re.compile(r"[\\|`*\[\]<>&~#]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")
"""What Markdown would read as its own; an underscore within a word is none."""
NOTES = 50  # sentences on rows that are spelled out; the rest are counted


def markdown(records: Sequence[Record]) -> str:
    """The table of all records, and below it ratios, reasons, warnings and conditions as a list."""
    records = sound(records)
    columns = varied(records)
    lines = [_line([_heading(column.title, column.unit) for column in columns])]
    lines.append(_line(["---:" if column.number else "---" for column in columns]))
    lines += [_line([_escaped(column.text(record)) for column in columns]) for record in records]
    found = pairs(records)
    notes = [("ratio", _ratio(pair)) for pair in found.shown]
    if found.left_out:
        notes.append(("ratio", f"{units.count(found.left_out)} older pairs are not compared here"))
    told = _rows(records)
    notes += told[:NOTES]
    if len(told) > NOTES:
        notes.append(("rows", f"{units.count(len(told) - NOTES)} more reasons and warnings are not told here"))
    notes += conditions(records, len(found.shown))
    return "\n".join([*lines, "", *(f"- **{about}**: {_escaped(text)}" for about, text in notes)]) + "\n"


def _rows(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Why rows failed, then what warns of others."""
    failed = [record for record in records if record.figures is None]
    found = [("failed", f"{label(record)}: {record.reason or 'no reason told'}") for record in failed]
    return found + [("warning", f"{label(record)}: {text}") for record in records for text in warnings(record)]


def _ratio(pair: Pair) -> str:
    found = bounds(pair)
    told = f"{label(pair.other)} is {ratio(pair.comparison.ratio)} times as fast as {label(pair.base)}"
    interval = f"{ratio(found[0])} to {ratio(found[1])}" if found else "no interval"
    return f"{told} ({interval}): {pair.comparison.verdict}"


def _heading(title: str, unit: str) -> str:
    return f"{title} ({unit})" if unit else title


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """One line that is read as plain text by whatever renders it."""
    return SPECIAL.sub(lambda found: f"\\{found[0]}", printable(text, 2000))
