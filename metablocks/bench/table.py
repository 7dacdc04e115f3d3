"""Records as a table for people, with what stands behind it below. Text from outside is never read as markup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metablocks.bench.record import Figures, Record
from metablocks.core import units
from metablocks.core.text import listed, printable

NAME = 20  # characters of a name


@dataclass(frozen=True)
class Column:
    """A column of figures: its two lines of heading, and its cell."""

    title: str
    unit: str
    cell: Callable[[Figures], str]
    style: str = ""


def _spread(figures: Figures) -> str:
    return units.percent((figures.images_per_s_q3 - figures.images_per_s_q1) / 2 / figures.images_per_s)


FIGURES = (
    Column("images/s", "", lambda figures: units.rate(figures.images_per_s), "bold"),
    Column("spread", "", _spread, "dim"),
    Column("latency", "ms", lambda figures: units.digits(1e3 * figures.latency_p50_s)),
    Column("90 %", "ms", lambda figures: units.digits(1e3 * figures.latency_p90_s), "dim"),
    Column("memory", "MiB", lambda figures: _mebibytes(figures.peak_memory_bytes)),
    Column("1st call", "s", lambda figures: units.digits(figures.first_call_s)),
)
COSTS = (("params", "params"), ("MACs", "macs"), ("FLOPs", "flops"))
Row = list[str]


def report(records: Sequence[Record], saved: str, console: Console) -> None:
    """Prints the table, what stands behind it, and where the records went."""
    costs, gap = _layout(records, console.width)
    rows = _rows(records, costs)
    width = console.width
    # where even the narrow table is too wide, the terminal breaks its lines, and nothing is cut away
    console.width = max(width, _width(rows, gap))
    console.print(_table(records, rows, gap))
    console.width = width
    notes = Table.grid(padding=(0, 2, 0, 0))
    notes.add_column(no_wrap=True)
    notes.add_column(overflow="fold")
    for key, told, style in _notes(records, costs):
        notes.add_row(Text(key, style=style or "dim"), Text(told, style=style))
    notes.add_row(Text("saved", style="dim"), Text(saved))
    console.print(notes)


def _layout(records: Sequence[Record], width: int) -> tuple[bool, int]:
    """Whether the costs have room in the table, and how many columns lie between two of its columns."""
    fitting = [(True, 2), (True, 1), (False, 2)]
    return next((one for one in fitting if _width(_rows(records, one[0]), one[1]) <= width), (False, 1))


def _width(rows: list[Row], gap: int) -> int:
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return sum(widths) + gap * (len(widths) - 1)


def _rows(records: Sequence[Record], costs: bool) -> list[Row]:
    """Two rows of headings and one a record; a network is named once for all the rows below it."""
    more = [title for title, _ in COSTS] if costs else []
    rows = [["", "", "", *(column.title for column in FIGURES), *more]]
    rows.append(["network", "compile", "batch", *(column.unit for column in FIGURES), *([""] * len(more))])
    before = ""
    for record in records:
        first, before = record.spec_digest != before, record.spec_digest
        figures = record.figures
        cells = [column.cell(figures) for column in FIGURES] if figures else ["failed", *[""] * (len(FIGURES) - 1)]
        told = [units.short(getattr(record, key)) if first else "" for _, key in COSTS] if costs else []
        rows.append([printable(record.name, NAME) if first else "", record.compile, str(record.batch), *cells, *told])
    return rows


def _table(records: Sequence[Record], rows: list[Row], gap: int) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0), header_style="")
    for index, (title, unit, *cells) in enumerate(zip(*rows, strict=True)):
        heading = Text(f"{title}\n", style="bold").append(unit, style="dim" if title else "bold")
        style = FIGURES[index - 3].style if 3 <= index < 3 + len(FIGURES) else ""
        width = max(map(len, (title, unit, *cells)))
        table.add_column(heading, justify="left" if index < 2 else "right", no_wrap=True, width=width, style=style)
    before = ""
    for record, row in zip(records, rows[2:], strict=True):
        if before not in ("", record.spec_digest):
            table.add_section()
        table.add_row(*(Text(cell, style="red" if cell == "failed" else "") for cell in row))
        before = record.spec_digest
    return table


def _notes(records: Sequence[Record], costs: bool) -> Iterator[tuple[str, str, str]]:
    """Key, sentence and style of each line below the table."""
    yield "", "", ""
    for record in records:
        if record.figures is None:
            reason = printable(record.reason or "no reason told", limit=0)
            yield "failed", f"{_label(record)}: {reason}", "red"
    for record in records:
        yield from (("warning", f"{_label(record)}: {printable(text, limit=0)}", "yellow") for text in record.warnings)
    if not costs:
        for record in {record.spec_digest: record for record in records}.values():
            told = ", ".join(f"{units.short(getattr(record, key))} {title}" for title, key in COSTS)
            yield "costs", f"{printable(record.name, NAME)}: {told}", ""
    yield from (("ratio", line, "") for line in _ratios(records))
    timed = [record.figures for record in records if record.figures]
    if timed:
        rounds = _range([len(figures.rounds_s) for figures in timed])
        yield "images/s", f"median of {rounds} rounds; spread: half their interquartile range", ""
        yield "latency", "of one image: median and 90th percentile", ""
    methods = {figures.peak_memory_method for figures in timed if figures.peak_memory_method}
    if methods:
        yield "memory", listed(sorted(methods)), ""
    caches = {figures.compile_cache for figures in timed if figures.compile_cache}
    if caches:
        yield "1st call", f"compiles; the compiler's cache was {listed(sorted(caches))}", ""
    conventions = {record.convention for record in records if record.convention}
    yield from (("MACs", convention.removeprefix("MACs "), "") for convention in conventions)
    yield from (("device", line, "") for line in _devices(records))


def _ratios(records: Sequence[Record]) -> Iterator[str]:
    """How much faster each network is compiled: the ratio of the medians, and of the quartiles furthest apart."""
    eager = {record.spec_digest: record for record in records if record.compile == "none"}
    for record in records:
        other = eager.get(record.spec_digest)
        if other is None or other is record or record.figures is None or other.figures is None:
            continue
        figures, base = record.figures, other.figures
        low, high = figures.images_per_s_q1 / base.images_per_s_q3, figures.images_per_s_q3 / base.images_per_s_q1
        ratio = units.digits(figures.images_per_s / base.images_per_s)
        told = f"{ratio} times the images/s of none (quartiles {units.digits(low)} to {units.digits(high)})"
        if low <= 1 <= high:
            told = f"{told}: cannot tell them apart"
        latency = units.digits(base.latency_p50_s / figures.latency_p50_s)
        doubt = "; see the warnings" if record.warnings or other.warnings else ""
        yield f"{_label(record)}: {told}; one image {latency} times as fast{doubt}"


def _devices(records: Sequence[Record]) -> Iterator[str]:
    """The conditions of the rows, each set of them once."""
    told: dict[str, None] = {}
    for record in records:
        place = record.environment
        name = f" ({printable(str(place['device_name']))})" if "device_name" in place else ""
        threads = f"{place['threads']} threads" if "threads" in place else ""
        torch = f"torch {place['torch']}" if "torch" in place else ""
        told[", ".join(filter(None, (f"{record.device}{name}", record.dtype, threads, torch, "random weights")))] = None
    # a worker that died at once does not know its device; the rows beside it do
    yield from [line for line in told if "torch" in line] or told


def _mebibytes(value: int | None) -> str:
    return "unknown" if value is None else units.mebibytes(value).removesuffix(" MiB")


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"


def _label(record: Record) -> str:
    return f"{printable(record.name, NAME)}, {record.compile}"
