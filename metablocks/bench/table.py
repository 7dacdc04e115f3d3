"""Records as a table for people, with what stands behind it below. Text from outside is never read as markup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metablocks.bench.notes import notes
from metablocks.bench.record import Record, cell
from metablocks.core import units
from metablocks.core.text import printable, side

NAME = 34  # characters of a name


@dataclass(frozen=True)
class Column:
    """A column: its two lines of heading, and its cell, empty where there is nothing to say."""

    title: str
    unit: str
    cell: Callable[[Record], str]
    style: str = ""
    left: bool = False


def _figure(key: str, show: Callable[[float], str]) -> Callable[[Record], str]:
    """The cell of a figure that may be absent."""

    def shown(record: Record) -> str:
        value = getattr(record.figures, key, None)
        return "" if value is None else show(value)

    return shown


def _milliseconds(value: float) -> str:
    return units.digits(1e3 * value)


def _mebibytes(value: float) -> str:
    return units.mebibytes(int(value)).removesuffix(" MiB")


def _bound(record: Record) -> str:
    """Half of the 95 % interval, as a share of the median."""
    figures = record.figures
    if figures is None or figures.images_per_s_low is None or figures.images_per_s_high is None:
        return ""
    return "±" + units.percent((figures.images_per_s_high - figures.images_per_s_low) / 2 / figures.images_per_s)


def _speed(record: Record) -> str:
    return "failed" if record.figures is None else units.rate(record.figures.images_per_s)


def _mark(record: Record) -> str:
    return {"unstable": "?", "invalid": "!"}.get(record.verdict or "", "")


def _cost(key: str) -> Callable[[Record], str]:
    return lambda record: "" if getattr(record, key) is None else units.short(getattr(record, key))


NETWORK = Column("", "network", lambda record: printable(record.name, NAME), left=True)
VARYING = (
    Column("", "mode", lambda record: record.mode, left=True),
    Column("", "image", lambda record: "" if record.image is None else side(record.image)),
    Column("", "dtype", lambda record: record.dtype, left=True),
    Column("", "device", lambda record: record.device, left=True),
    Column("", "kernels", lambda record: record.kernels or "", left=True),
)
ALWAYS = (
    Column("", "compile", lambda record: record.compile, left=True),
    Column("", "batch", lambda record: str(record.batch)),
)
BOUND = Column("95 %", "", _bound, "dim")
SPELT = Column("95 %", "", lambda record: _bound(record).removeprefix("±"), "dim")
"""The same for a terminal that has nothing but ASCII."""
FIGURES = (
    Column("images/s", "", _speed, "bold"),
    Column("", "", _mark, "yellow"),
    BOUND,
    Column("latency", "ms", _figure("latency_p50_s", _milliseconds)),
    Column("90 %", "ms", _figure("latency_p90_s", _milliseconds), "dim"),
    Column("forward", "ms", _figure("forward_s", _milliseconds)),
    Column("backward", "ms", _figure("backward_s", _milliseconds)),
    Column("update", "ms", _figure("optimiser_s", _milliseconds)),
    Column("memory", "MiB", _figure("peak_memory_bytes", _mebibytes)),
    Column("compile", "s", _figure("compile_cold_s", units.digits)),
    Column("cached", "s", _figure("compile_warm_s", units.digits), "dim"),
)
COSTS = (Column("params", "", _cost("params")), Column("MACs", "", _cost("macs")))


def report(records: Sequence[Record], console: Console, saved: str = "") -> None:
    """Prints the table, what stands behind it, and where the records went."""
    shown = once(records)
    width = console.width
    columns, gap = _layout(shown, width)
    if not console.encoding.startswith("utf"):
        columns = [SPELT if column == BOUND else column for column in columns]
    # where even the narrow table is too wide, the terminal breaks its lines, and nothing is cut away
    console.width = max(width, _width(columns, shown, gap))
    console.print(_table(columns, shown, gap))
    console.width = width
    below = Table.grid(padding=(0, 2, 0, 0))
    below.add_column(no_wrap=True)
    below.add_column(overflow="fold")
    costs = () if COSTS[0] in columns else tuple(_costs(shown))
    for key, told, style in (*costs, *notes(shown, records)):
        below.add_row(Text(key, style=style or "dim"), Text(told, style=style))
    if saved:
        below.add_row(Text("saved", style="dim"), Text(saved))
    console.print()
    console.print(below)


def once(records: Sequence[Record]) -> list[Record]:
    """Each cell with its last record, in the order in which cells first came: a base is measured in several pairs."""
    return list({cell(record): record for record in records}.values())


def _layout(records: Sequence[Record], width: int) -> tuple[list[Column], int]:
    """The columns that have something to say and have room, and how many spaces lie between two of them."""
    varying = [column for column in VARYING if len({column.cell(record) for record in records}) > 1]
    figures = [column for column in FIGURES if any(column.cell(record) for record in records)]
    narrow = [NETWORK, *varying, *ALWAYS, *figures]
    latency = [column for column in narrow if column.title not in ("90 %", "cached")]
    wanted = [([*narrow, *COSTS], 2), ([*narrow, *COSTS], 1), (narrow, 2), (narrow, 1), (latency, 1)]
    return next((one for one in wanted if _width(one[0], records, one[1]) <= width), (latency, 1))


def _cells(column: Column, records: Sequence[Record]) -> list[str]:
    """The cells of a column; a network is named once for all the rows below it, and so are its costs."""
    cells = [column.cell(record) for record in records]
    if column not in (NETWORK, *COSTS):
        return cells
    digests = [None, *(record.digest for record in records)]
    return [text if digests[index] != digests[index + 1] else "" for index, text in enumerate(cells)]


def _width(columns: Sequence[Column], records: Sequence[Record], gap: int) -> int:
    widths = [max(map(len, (column.title, column.unit, *_cells(column, records)))) for column in columns]
    return sum(widths) + gap * (len(widths) - 1)


def _table(columns: Sequence[Column], records: Sequence[Record], gap: int) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0), header_style="")
    for column in columns:
        heading = Text(f"{column.title}\n", style="bold")
        heading.append(column.unit, style="dim" if column.title else "bold")
        width = max(map(len, (column.title, column.unit, *_cells(column, records))))
        justify = "left" if column.left else "right"
        table.add_column(heading, justify=justify, no_wrap=True, width=width, style=column.style)  # type: ignore[arg-type]
    rows = zip(*(_cells(column, records) for column in columns), strict=True)
    before = ""
    for record, row in zip(records, rows, strict=True):
        if before not in ("", record.digest):
            table.add_section()
        table.add_row(*(Text(text, style="red" if text == "failed" else "") for text in row))
        before = record.digest
    return table


def _costs(records: Sequence[Record]) -> Iterator[tuple[str, str, str]]:
    for record in {record.digest: record for record in records}.values():
        told = [f"{column.cell(record)} {column.title}" for column in COSTS if column.cell(record)]
        if told:
            yield "costs", f"{printable(record.name, NAME)}: {', '.join(told)}", ""
