"""What `compare` found as a table, with what stands behind it below. A is the base, B is held against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metablocks.bench.compare import Compared, Row
from metablocks.bench.record import Record
from metablocks.bench.statistics import ALPHA, NOISE
from metablocks.core import units
from metablocks.core.text import printable, side

NAME = 20  # characters of a name
SPELT_OUT = 4  # rows, or networks, that a note names; the rest are counted
COLOURS = {"better": "green", "worse": "red"}

Note = tuple[str, str, str]
"""Key, sentence, style."""


@dataclass(frozen=True)
class Column:
    """A column of the table: two lines of heading and a cell for each row."""

    title: str
    unit: str
    cell: Callable[[Row], str]
    style: str = ""
    left: bool = False


def _network(row: Row) -> str:
    return printable(row.other.name, NAME)


def _interval(row: Row) -> str:
    seen = row.comparison
    return "none" if seen is None or seen.low is None else f"{_times(seen.low)} to {_times(seen.high)}"


def _times(value: float | None) -> str:
    return "" if value is None else units.ratio(value)


def _change(value: float | None) -> str:
    """A ratio as a change: +3.0 %."""
    return "" if value is None else f"{'+' if value > 1 else ''}{units.percent(value - 1)}"


CONDITIONS = (
    Column("", "mode", lambda row: row.other.mode, left=True),
    Column("", "compile", lambda row: row.other.compile, left=True),
    Column("", "batch", lambda row: str(row.other.batch)),
    Column("", "image", lambda row: "" if row.other.image is None else side(row.other.image)),
    Column("", "dtype", lambda row: row.other.dtype, left=True),
    Column("", "device", lambda row: row.other.device, left=True),
    Column("", "layout", lambda row: "channels last" if row.other.channels_last else "contiguous", left=True),
    Column("", "blocks", lambda row: "checkpointed" if row.other.checkpoint else "kept", left=True),
)
SPEEDS = (
    Column("A", "images/s", lambda row: units.rate(row.base.figures.images_per_s) if row.base.figures else ""),
    Column("B", "images/s", lambda row: units.rate(row.other.figures.images_per_s) if row.other.figures else ""),
    Column("ratio", "B / A", lambda row: _times(row.comparison.ratio) if row.comparison else "", "bold"),
    Column("interval", "95 %", _interval, "dim"),
    Column("verdict", "on B", lambda row: row.verdict, left=True),
)
BESIDE = (
    Column("latency", "change", lambda row: _change(row.latency_ratio)),
    Column("memory", "change", lambda row: _change(row.memory_ratio)),
)


def _apart(rows: Sequence[Row]) -> list[Column]:
    """What sets the rows apart; what they share is told once below."""
    return [column for column in CONDITIONS if len({column.cell(row) for row in rows}) > 1]


def _label(row: Row, rows: Sequence[Row]) -> str:
    return ", ".join([_network(row), *(column.cell(row) for column in _apart(rows))])


def _columns(rows: Sequence[Row], width: int) -> tuple[list[Column], int]:
    """The columns that have room, and how many spaces lie between two of them."""
    narrow = [Column("", "network", _network, left=True), *_apart(rows), *SPEEDS]
    wide = [*narrow, *(column for column in BESIDE if any(column.cell(row) for row in rows))]
    fitting = [(columns, gap) for columns in (wide, narrow) for gap in (2, 1)]
    return next(
        (one for one in fitting if sum(_widths(one[0], rows)) + one[1] * (len(one[0]) - 1) <= width), fitting[-1]
    )


def _widths(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    return [max(map(len, (column.title, column.unit, *map(column.cell, rows)))) for column in columns]


def _print_rows(rows: Sequence[Row], console: Console) -> bool:
    """Whether there was room for latency and memory."""
    width = console.width
    columns, gap = _columns(rows, width)
    widths = _widths(columns, rows)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0), header_style="")
    for column, wide in zip(columns, widths, strict=True):
        heading = Text(f"{column.title}\n", style="bold").append(column.unit, "dim" if column.title else "bold")
        table.add_column(
            heading, "", justify="left" if column.left else "right", no_wrap=True, width=wide, style=column.style
        )
    before = ""
    for row in rows:
        first, before = _network(row) != before, _network(row)
        cells = [column.cell(row) if first or column.cell is not _network else "" for column in columns]
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in cells))
    # where even this is too wide, the terminal breaks its lines, and nothing is cut away
    console.width = max(width, sum(widths) + gap * (len(widths) - 1))
    console.print(table)
    console.width = width
    return BESIDE[0] in columns or BESIDE[1] in columns


def report(compared: Compared, sides: tuple[str, str], console: Console) -> None:
    """Prints the table and what stands behind it. `sides` are A and B as the user called them."""
    beside = True
    if compared.rows:
        beside = _print_rows(compared.rows, console)
        console.print()
    below = Table.grid(padding=(0, 2, 0, 0))
    below.add_column(no_wrap=True)
    below.add_column(overflow="fold")
    for key, told, style in (*_notes(compared, sides), *(() if beside else _beside(compared.rows))):
        below.add_row(Text(key, style=style or "dim"), Text(told, style=style))
    console.print(below)


def _notes(compared: Compared, sides: tuple[str, str]) -> Iterator[Note]:
    rows = compared.rows
    for letter, given, role in (("A", sides[0], "base"), ("B", sides[1], "other")):
        found = [row.base if role == "base" else row.other for row in rows]
        found += compared.base_only if role == "base" else compared.other_only
        found += [one.record for one in compared.lost if one.role == role]
        yield letter, _side(given, found), ""
    if not rows:
        yield "rows", "none: no cell went well on both sides", "yellow"
    for one in compared.lost:
        told = f"{_named(one.record)}: {printable(one.reason, limit=0)}"
        yield f"failed in {'A' if one.role == 'base' else 'B'}", told, "red"
    yield from (("doubt", told, "yellow") for told in _together(rows, lambda row: row.doubts))
    yield from (("changed", told, "yellow") for told in _together(rows, lambda row: row.changed))
    for letter, alone in (("A", compared.base_only), ("B", compared.other_only)):
        if alone:
            yield f"only in {letter}", _some([_named(record) for record in alone], "; "), ""
    if rows:
        yield from _explained(rows)


def _beside(rows: Sequence[Row]) -> Iterator[Note]:
    """Latency and memory of B against A, without verdicts."""
    for row in rows:
        told = [f"{column.title} {column.cell(row)}" for column in BESIDE if column.cell(row)]
        if told:
            yield "change", f"{_label(row, rows)}: {', '.join(told)}", ""


def _side(given: str, records: Sequence[Record]) -> str:
    """What a side is: the file or the subject, and the networks in it."""
    names = list(dict.fromkeys(printable(record.name, NAME) for record in records))
    given = printable(given, limit=0)
    return given if names in ([], [given]) else f"{given}: {_some(names)}"


def _some(names: Sequence[str], between: str = ", ") -> str:
    more = [f"{len(names) - SPELT_OUT} more"] if len(names) > SPELT_OUT else []
    return between.join([*names[:SPELT_OUT], *more])


def _together(rows: Sequence[Row], told: Callable[[Row], Sequence[str]]) -> Iterator[str]:
    """Every sentence once, with the rows that it is told of."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for sentence in told(row):
            found.setdefault(sentence, []).append(_label(row, rows))
    for sentence, labels in found.items():
        where = "" if len(labels) == len(rows) else f"{_some(labels, '; ')}: "
        yield f"{where}{printable(sentence, limit=0)}"


def _named(record: Record) -> str:
    return f"{printable(record.name, NAME)}, {record.mode}, {record.compile}, batch {record.batch}, {record.dtype}"


def _explained(rows: Sequence[Row]) -> Iterator[Note]:
    """How to read the columns, and what the rows share."""
    yield "ratio", "of speeds: above 1, B is faster; the median over processes, with its 95 % interval", ""
    many = "" if len(rows) == 1 else f" (all {len(rows)} rows allowed for)"
    chance = f"chance makes such a ratio in under {units.percent(ALPHA)} of cases{many}"
    yield "verdict", f"better or worse where {chance} and it is over {units.percent(NOISE)} from 1", ""
    apart = {True: "in turns, round by round", False: "at different times: what changed in between is in the ratio"}
    yield from (
        ("measured", told, "") for told in _together(rows, lambda row: (apart[row.paired],) if row.comparison else ())
    )
    yield from (("rows", told, "") for told in _together(rows, lambda row: (_shared(row, rows),)))


def _shared(row: Row, rows: Sequence[Row]) -> str:
    """The conditions that are no columns, in words. Of the device, what B says; where A differs is told above."""
    shown, place = [column.unit for column in _apart(rows)], row.other.environment
    cells = {column.unit: column.cell(row) for column in CONDITIONS if column.unit not in shown}
    image = cells.get("image")
    words = [
        cells.get("mode", ""),
        f"compile {cells['compile']}" if "compile" in cells else "",
        f"batch {cells['batch']}" if "batch" in cells else "",
        f"{image} px" if image else "",
        cells.get("dtype", ""),
        "channels last" if cells.get("layout") == "channels last" else "",
        "activation checkpointing" if cells.get("blocks") == "checkpointed" else "",
        f"{cells.get('device', '')} ({place['device_name']})" if "device_name" in place else cells.get("device", ""),
        f"torch {place['torch']}" if "torch" in place else "",
        f"{place['threads']} threads" if "threads" in place else "",
    ]
    return ", ".join(filter(None, words)).lstrip()
