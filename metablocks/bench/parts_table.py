"""Where the time of a call goes, as tables for people: by part of the network, and by what the parts are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metablocks.bench.record import Record
from metablocks.core import units
from metablocks.core.text import printable

Row = Mapping[str, Any]

NAME = 24  # characters of a name
BARS = (24, 16, 10, 6)  # characters of the longest bar, by what there is room for
EIGHTHS = " ▏▎▍▌▋▊▉"
COLOURS = {"mixer": "magenta", "mlp": "cyan", "block": "magenta", "norm": "yellow", "residual": "green"}


@dataclass(frozen=True)
class Column:
    """A column: its two lines of heading and its cell. The bar has a cell of its own."""

    title: str
    unit: str
    cell: Callable[[Row], str]
    left: bool = False
    style: str = ""


def _value(key: str, show: Callable[[Any], str]) -> Callable[[Row], str]:
    """The cell of a value that may be absent."""
    return lambda row: "" if row.get(key) is None else show(row[key])


def _what(row: Row) -> str:
    return printable(str(row["what"]), NAME)


def _name(row: Row) -> str:
    return printable(str(row.get("name") or ""), NAME)


def _which(row: Row) -> str:
    """The name, else what it is where the part does not say so already."""
    return _name(row) or ("" if row["what"] == row["part"] else _what(row))


PART = Column("", "part", lambda row: printable(str(row["part"]).removesuffix(".downsample"), NAME), left=True)
WHAT = Column("", "what", _what, left=True)
WHICH = Column("", "which", _name, left=True)
WHAT_OR_WHICH = Column("", "what", _which, left=True)
CALLS = Column("", "calls", _value("calls", str), style="dim")
TIME = Column("time", "ms", _value("seconds", lambda value: units.digits(1e3 * value)), style="bold")
SHARE = Column("share", "", _value("share", units.percent))
MACS = Column("MACs", "", _value("macs", units.short))
BYTES = Column("least", "MiB", _value("bytes", lambda value: units.mebibytes(value).removesuffix(" MiB")), style="dim")
INTENSITY = Column("MACs", "/byte", _value("intensity_macs_per_byte", units.digits))
ROOF = Column("of the", "roof", _value("share_of_peak", units.percent))

BY_PART = (
    (PART, WHAT, WHICH, CALLS, TIME, SHARE, MACS, BYTES, INTENSITY, ROOF),
    (PART, WHAT_OR_WHICH, CALLS, TIME, SHARE, MACS, BYTES, INTENSITY, ROOF),
    (PART, WHAT_OR_WHICH, TIME, SHARE, MACS, BYTES, INTENSITY, ROOF),
    (PART, WHAT, TIME, SHARE, MACS, BYTES, ROOF),
)
BY_WHAT = ((WHAT, CALLS, TIME, SHARE, MACS, BYTES, INTENSITY, ROOF), (WHAT, TIME, SHARE, MACS, BYTES, ROOF))


def report_parts(record: Record, console: Console) -> None:
    """Prints where the time of a record goes, and how near to the roof it is spent; nothing where it is not known."""
    rows = [row for row in record.parts if isinstance(row, Mapping) and isinstance(row.get("seconds"), float)]
    if not rows:
        return
    seconds = units.seconds(sum(row["seconds"] for row in rows))
    console.print(
        Text(f"where the {seconds} of a call go: {printable(record.name, 60)}, {_conditions(record)}\n", style="bold")
    )
    _print(rows, BY_PART, console)
    totals = by_what(rows)
    if len(totals) > 1:
        console.print()
        _print(totals, BY_WHAT, console)
    console.print()
    below = Table.grid(padding=(0, 2, 0, 0))
    below.add_column(no_wrap=True)
    below.add_column(overflow="fold")
    for key, told in _notes(record, rows):
        below.add_row(Text(key, style="dim"), Text(told))
    console.print(below)


def by_what(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows of one kind added up, the longest first. Absent where one of them is absent."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(str(row["what"]), []).append(row)
    return sorted((_added(what, some) for what, some in found.items()), key=lambda row: -row["seconds"])


def _added(what: str, rows: Sequence[Row]) -> dict[str, Any]:
    added: dict[str, Any] = {"what": what}
    for key in ("calls", "seconds", "share", "macs", "bytes"):
        known = [row[key] for row in rows if row.get(key) is not None]
        added[key] = sum(known) if len(known) == len(rows) else None
    macs, moved = added["macs"], added["bytes"]
    added["intensity_macs_per_byte"] = macs / moved if macs is not None and moved else None
    shares = [(row.get("share_of_peak"), row["seconds"]) for row in rows]
    # each part's share of the roof is its least time over its time, so least times add up
    least = [share * spent for share, spent in shares if share is not None]
    added["share_of_peak"] = sum(least) / added["seconds"] if len(least) == len(rows) and added["seconds"] else None
    return added


def _print(rows: Sequence[Row], layouts: Sequence[Sequence[Column]], console: Console) -> None:
    """The widest table for which there is room, with the longest bars."""
    wanted = [(columns, bar, gap) for columns in layouts for bar in BARS for gap in (2, 1)]
    fitting = (one for one in wanted if _width(one, rows) <= console.width)
    columns, bar, gap = layout = next(fitting, wanted[-1])
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0), header_style="")
    for column in columns:
        heading = Text(f"{column.title}\n", style="bold").append(column.unit, style="dim" if column.title else "bold")
        width = _widest(column, rows)
        justify = "left" if column.left else "right"
        table.add_column(heading, justify=justify, no_wrap=True, width=width, style=column.style)  # type: ignore[arg-type]
        if column is SHARE:
            table.add_column("", no_wrap=True, width=bar)
    longest = max((row.get("share") or 0.0 for row in rows), default=0.0) or 1.0
    before = ""
    for row in rows:
        cells = []
        for column in columns:
            text = column.cell(row)
            cells.append(Text("" if column is PART and text == before else text))
            before = text if column is PART else before
            if column is SHARE:
                style = COLOURS.get(str(row["what"]), "blue")
                cells.append(Text(_bar((row.get("share") or 0.0) / longest, bar, console), style=style))
        table.add_row(*cells)
    width = console.width
    # where even the narrowest table is too wide, the terminal breaks its lines, and nothing is cut away
    console.width = max(width, _width(layout, rows))
    console.print(table)
    console.width = width


def _width(layout: tuple[Sequence[Column], int, int], rows: Sequence[Row]) -> int:
    columns, bar, gap = layout
    return sum(_widest(column, rows) for column in columns) + bar + gap * len(columns)


def _widest(column: Column, rows: Sequence[Row]) -> int:
    return max(len(column.title), len(column.unit), *(len(column.cell(row)) for row in rows))


def _bar(share: float, longest: int, console: Console) -> str:
    """A bar of at most `longest` characters, to an eighth of one where the terminal has such."""
    if console.options.ascii_only:
        return "#" * round(share * longest)
    whole, rest = divmod(round(8 * share * longest), 8)
    return "█" * whole + (EIGHTHS[rest] if rest else "")


def _conditions(record: Record) -> str:
    how = {"none": "eager", "block": "blocks compiled", "model": "compiled whole"}.get(record.compile, record.compile)
    forward = "" if record.mode == "infer" else ", forward pass alone"
    return f"batch {record.batch}, {printable(record.dtype)}, {how}{forward}"


def _notes(record: Record, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """What the columns mean and how they were measured."""
    if any(row["what"] == "network" for row in rows):
        yield "inside", "not seen, it is one graph; --compile none or block shows more"
    elif any(row["what"] == "block" for row in rows):
        more = (
            "--compile none shows what is inside" if record.kind == "spec" else "only networks of specs are seen inside"
        )
        yield "block", f"seen whole; {more}"
    last = rows[-1]
    if last.get("timed_calls") is not None:
        yield "time", f"mean of the middle half of {last['timed_calls']} calls{_overhead(last)}"
    yield "least", "bytes that have to move: inputs and parameters read once, outputs written once"
    yield "roof", "least time over time; over 100 % where data stays in a cache"
    peaks = list(_peaks(record))
    if peaks:
        yield "peak", f"{'; '.join(peaks)}; best rounds, measured on this device"
    place = record.environment
    name = f" ({printable(str(place['device_name']))})" if "device_name" in place else ""
    threads = f", threads: {place['threads']}" if "threads" in place else ""
    yield "device", f"{record.device}{name}{threads}"


def _overhead(last: Row) -> str:
    """What the clock costs that stands inside the network."""
    if last["what"] == "network":
        return ""
    if last.get("overhead_share") is None:
        return "; what the clock inside adds is lost in their spread"
    return f"; the clock inside adds {units.percent(last['overhead_share'])}"


def _peaks(record: Record) -> Iterator[str]:
    """The roof, where it is known."""
    dtype = record.dtype.removeprefix("amp_")
    flops = record.peaks.get(f"peak_flops_per_s_{dtype}")
    copied = record.peaks.get("peak_copy_bytes_per_s")
    if flops is not None:
        yield f"{units.short(flops, 'FLOP/s')} in {printable(dtype)} products"
    if copied is not None:
        yield f"{units.short(copied, 'B/s')} copied"
