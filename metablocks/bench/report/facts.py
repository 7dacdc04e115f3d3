"""What can be told of a record: numbers that are numbers, names, marks, and the columns that every export shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from metablocks.bench.record import Record
from metablocks.core import units
from metablocks.core.text import printable, side

NAME = 80  # characters of a name
SMALLEST, LARGEST = 1e-30, 1e30

Item = TypeVar("Item")
Key = float | str | None
"""What a column is sorted by. None where there is nothing: absent stays absent."""


@dataclass(frozen=True)
class Column:
    """A column of a table: `key` sorts, `text` is read, `what` explains. `number` says how it is sorted and set."""

    title: str
    unit: str
    what: str
    key: Callable[[Record], Key]
    text: Callable[[Record], str]
    number: bool = False


@dataclass(frozen=True)
class Mark:
    """How far a row can be believed: a sign for those who see no colours, and a word."""

    sign: str
    word: str
    what: str


MARKS = (
    Mark("\u2713", "valid", "nothing puts the times in doubt"),
    Mark("\u2248", "unstable", "a warning puts the times in doubt: measure again before you quote them"),
    Mark("!", "invalid", "the times cannot be right: do not quote them"),
    Mark("\u2715", "failed", "nothing was measured; the reason stands in the row"),
    Mark("\u00b7", "not judged", "the record says nothing of how far it can be believed"),
)


def sound(records: Sequence[Record]) -> list[Record]:
    """The records with every list a list and every table a table, so that what follows has only values to look at."""
    return [record if _is_sound(record) else _mended(record) for record in records]


def _is_sound(record: Record) -> bool:
    lists = (record.warnings, record.edits, record.unknown_ops, record.parts)
    words = (record.run, record.pair, record.role, record.reason, *_listed(record.warnings))
    whole = all(isinstance(one, tuple) for one in lists) and isinstance(record.environment, dict)
    return whole and all(one is None or isinstance(one, str) for one in words) and _timed(record)


def _timed(record: Record) -> bool:
    return all(isinstance(process.rounds_s, tuple) for process in record.processes)


def _mended(record: Record) -> Record:
    """Without what is not of its kind: absent rather than wrong."""
    return replace(
        record,
        run=_word(record.run),
        pair=_word(record.pair),
        role=_word(record.role),
        reason=_word(record.reason),
        warnings=tuple(map(str, _listed(record.warnings))),
        edits=_listed(record.edits),
        unknown_ops=_listed(record.unknown_ops),
        parts=_listed(record.parts),
        environment=record.environment if isinstance(record.environment, dict) else {},
        processes=record.processes if _timed(record) else (),
    )


def _word(value: str | None) -> str | None:
    return None if value is None else str(value)


def _listed(value: tuple[Item, ...]) -> tuple[Item, ...]:
    return value if isinstance(value, tuple) else ()


def mark(record: Record) -> Mark:
    """Failed where there are no figures, else the verdict of the record."""
    word = str(record.verdict) if record.figures else "failed"
    return next((one for one in MARKS if one.word == word), MARKS[-1])


def number(value: object) -> float | None:
    """A finite number, or None: a results file that somebody edited may hold anything anywhere."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def positive(value: object) -> float | None:
    """A number above zero that can be drawn, or None. Beyond these bounds nothing is a measurement."""
    found = number(value)
    return found if found is not None and SMALLEST < found < LARGEST else None


def figure(record: Record, name: str) -> float | None:
    """A figure, or a count of the record itself, where it is a number."""
    holder = record.figures if hasattr(record.figures, name) else record
    return number(getattr(holder, name, None))


def image(record: Record) -> str:
    """`224`, or `224 x 192`: pixels; empty where it is not known."""
    size = record.image
    if not isinstance(size, tuple) or len(size) != 2 or None in map(number, size):
        return ""
    return side((int(size[0]), int(size[1])))


def device(record: Record) -> str:
    """`cpu (AMD EPYC)`."""
    name = record.environment.get("device_name")
    return f"{record.device} ({name})" if name else str(record.device)


def label(record: Record) -> str:
    """What tells rows of one network apart at a glance."""
    told = [printable(str(record.name), NAME), str(record.compile)]
    if record.mode != "infer":
        told.append(str(record.mode))
    return printable(", ".join(told), limit=0)


def warnings(record: Record) -> list[str]:
    return [str(text) for text in record.warnings]


def times(record: Record) -> list[list[float]]:
    """Seconds of an image in each round, by process; empty where any of them is no time."""
    found = []
    for process in record.processes:
        images = positive(record.batch), positive(process.calls_per_round)
        spent = [positive(value) for value in process.rounds_s]
        if None in images or None in spent or not spent:
            return []
        found.append([value / (images[0] * images[1]) for value in spent if value and images[0] and images[1]])
    return found


def _text(title: str, what: str, told: Callable[[Record], object]) -> Column:
    def text(record: Record) -> str:
        return str(told(record))

    return Column(title, "", what, lambda record: text(record) or None, text)


def _number(title: str, unit: str, name: str, told: Callable[[float], str], what: str) -> Column:
    def text(record: Record) -> str:
        value = figure(record, name)
        return "" if value is None else told(value)

    return Column(title, unit, what, lambda record: figure(record, name), text, number=True)


def _interval(record: Record) -> str:
    low, high = figure(record, "images_per_s_low"), figure(record, "images_per_s_high")
    return "" if low is None or high is None else f"{units.rate(low)} to {units.rate(high)}"


def _milliseconds(value: float) -> str:
    return units.digits(1e3 * value)


def _mebibytes(value: float) -> str:
    return units.mebibytes(int(value)).removesuffix(" MiB")


CONDITIONS = (
    _text("network", "the name of the subject", lambda record: printable(str(record.name), NAME)),
    _text("verdict", "how far the row can be believed", lambda record: mark(record).word),
    _text("mode", "infer, train or pretrain", lambda record: record.mode),
    _text("compile", "what was compiled: nothing, each block, the model", lambda record: record.compile),
    Column("batch", "", "images in a batch", lambda record: number(record.batch),
           lambda record: str(record.batch), number=True),
    _text("image", "height and width in pixels", image),
    _text("dtype", "of weights and images, or of autocast", lambda record: record.dtype),
    _text("device", "where it ran", device),
    _text("layout", "channels last, where it was asked for",
          lambda record: "channels last" if record.channels_last else ""),
    _text("checkpoint", "activation checkpointing: of every block, or the share of activations that is kept",
          lambda record: "" if not record.checkpoint else "checkpointed" if record.checkpoint is True
          else f"{units.percent(record.checkpoint)} of activations kept"),
    _text("kernels", "fused, ours where there are any, or reference, what torch has",
          lambda record: record.kernels or ""),
)  # fmt: skip

FIGURES = (
    _number("images/s", "", "images_per_s", units.rate, "median of the medians of the processes"),
    Column("95 % interval", "images/s", "bounds the median; none where there was one process",
           lambda record: figure(record, "images_per_s_low"), _interval, number=True),
    _number("latency", "ms", "latency_p50_s", _milliseconds, "of one image, median"),
    _number("90 %", "ms", "latency_p90_s", _milliseconds, "of one image, 90th percentile"),
    _number("99 %", "ms", "latency_p99_s", _milliseconds, "of one image, 99th percentile"),
    _number("memory", "MiB", "peak_memory_bytes", _mebibytes, "peak, measured"),
    _number("predicted", "MiB", "predicted_peak_memory_bytes", _mebibytes, "peak, predicted without the device"),
    _number("1st call", "s", "first_call_s", units.digits, "compiles, where the row is compiled"),
    _number("speed", "FLOP/s", "flops_per_s", units.short, "FLOPs of the network times images/s"),
    _number("params", "", "params", units.short, "parameters"),
    _number("MACs", "", "macs", units.short, "multiply-accumulates for one image; FLOPs are twice as many"),
)  # fmt: skip


TIME = _text("measured", "when the case began",
             lambda record: str(record.time).replace("T", " ").replace("+00:00", " UTC"))  # fmt: skip


def varied(records: Sequence[Record]) -> tuple[Column, ...]:
    """The columns that tell something: network and verdict, conditions that differ, figures that are there.

    The time is told where nothing else tells two rows apart.
    """
    first, rest = CONDITIONS[:2], CONDITIONS[2:]
    differing = tuple(one for one in rest if len(_texts(one, records)) > 1)
    cells = {tuple(one.text(record) for one in (*first[:1], *differing)) for record in records}
    again = (TIME,) if len(cells) < len(records) else ()
    return (*first, *differing, *again, *(one for one in FIGURES if any(one.text(record) for record in records)))


def _texts(column: Column, records: Sequence[Record]) -> set[str]:
    """The texts of a column; a worker that died at once knew neither device nor image, the rows beside it do."""
    found: set[str] = set()
    lost: set[str] = set()
    for record in records:
        (found if record.environment or record.figures else lost).add(column.text(record))
    unknown = {str(record.device) for record in records} if column.title == "device" else {""}
    return found | (lost - unknown if found else lost)


def constant(records: Sequence[Record]) -> list[tuple[Column, str]]:
    """The conditions that are the same in every row, and their text."""
    found = [(one, _texts(one, records)) for one in CONDITIONS[2:]]
    return [(one, next(iter(texts))) for one, texts in found if len(texts) == 1 and texts != {""}]
