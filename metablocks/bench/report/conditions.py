"""What stands behind the rows, in plain words: the same sentences below a table and on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from metablocks.bench.record import Record
from metablocks.bench.report.facts import MARKS, constant, device, figure, mark, number
from metablocks.core import units
from metablocks.core.text import listed, printable

SHOWN = 8  # devices, methods or conventions that are spelled out; the rest are counted
VERSIONS = (("torch", "torch"), ("python", "Python"), ("metablocks", "metablocks"), ("cuda", "CUDA"),
            ("driver", "driver"), ("timm", "timm"), ("torchvision", "torchvision"))  # fmt: skip

Told = tuple[str, str]
"""What a sentence is about, and the sentence."""


def conditions(records: Sequence[Record], pairs: int = 0) -> list[Told]:
    """Sentences in the order in which a reader needs them. `pairs` is how many comparisons stand beside the rows."""
    told = [("rows", _counts(records)), *_alike(records), *(("device", line) for line in _devices(records))]
    told += [*_measured(records), *_figures(records)]
    if pairs:
        told.append(("pairs", PAIRS))
    return [*told, *_memory(records), *_counting(records)]


PAIRS = (
    "two rows of a pair ran round by round in turns, so that what slows the machine down hits both; the ratio is that "
    "of rounds that belong together, with a 95 % interval. Better and worse allow for how many comparisons are shown"
)

REPEATS = (
    "The interval bounds it with 95 %; what is repeated is the process, since rounds within one are not independent"
)


def _counts(records: Sequence[Record]) -> str:
    found = Counter(mark(record).word for record in records)
    many = listed(f"{units.count(found[one.word])} {one.word}" for one in MARKS if found[one.word])
    return f"{units.count(len(records))}: {many}" if records else "none"


def _alike(records: Sequence[Record]) -> Iterator[Told]:
    same = [(column.title, text) for column, text in constant(records) if column.title != "device"]
    if same and len(records) > 1:
        yield "in all rows", ", ".join(text if title in ("layout", "checkpoint") else f"{title} {text}"
                                       for title, text in same)  # fmt: skip


def _devices(records: Sequence[Record]) -> list[str]:
    found = Counter(_device(record) for record in records if record.environment)
    return _most([f"{line} ({units.count(many)} rows)" if len(found) > 1 else line for line, many in found.items()])


def _device(record: Record) -> str:
    place = record.environment
    threads = f"{place['threads']} threads" if "threads" in place else ""
    versions = [f"{title} {place[key]}" for key, title in VERSIONS if key in place]
    return printable(", ".join(filter(None, (device(record), threads, *versions))), 400)


def _measured(records: Sequence[Record]) -> Iterator[Told]:
    timed = [record for record in records if record.figures]
    if not timed:
        return
    processes = _range([max(1, len(record.processes)) for record in timed], "process", "processes")
    seconds = [value for record in timed if (value := number(record.seconds)) is not None]
    each = f", with {_seconds(seconds)} of timed rounds in each" if seconds else ""
    inputs = "Weights and images are random numbers, never zeros"
    yield "measured", f"every row by {processes} of its own{each}, after a warm-up. {inputs}"
    drifting = sum(any(not process.steady for process in record.processes) for record in timed)
    if drifting:
        many = "1 row" if drifting == 1 else f"{units.count(drifting)} rows"
        yield "warm-up", f"the times of {many} had not become steady when it ended"


def _figures(records: Sequence[Record]) -> Iterator[Told]:
    if any(figure(record, "images_per_s_low") is not None for record in records):
        yield "images/s", f"the median over processes of the median of their rounds. {REPEATS}"
    elif any(record.figures for record in records):
        yield "images/s", "the median over rounds; there is no interval without several processes"
    if any(figure(record, "latency_p50_s") is not None for record in records):
        yield "latency", "of a single image: median and percentiles"
    caches = {process.compile_cache for record in records for process in record.processes if process.compile_cache}
    if caches:
        yield "1st call", f"compiles; the compiler's cache was {listed(sorted(map(str, caches)), 'or')}"


def _memory(records: Sequence[Record]) -> Iterator[Told]:
    methods = {str(record.figures.peak_memory_method) for record in records
               if record.figures and record.figures.peak_memory_method}  # fmt: skip
    yield from (("memory", line) for line in _most(sorted(methods)))


def _counting(records: Sequence[Record]) -> Iterator[Told]:
    conventions = {str(record.convention).removeprefix("MACs ") for record in records if record.convention}
    yield from (("MACs", line) for line in _most(sorted(conventions)))
    unknown = {str(name) for record in records for name in record.unknown_ops}
    if unknown:
        yield "not counted", f"no counter knows {listed(_most(sorted(unknown)))}"


def _most(lines: Sequence[str]) -> list[str]:
    told = [printable(line, 400) for line in lines[:SHOWN]]
    return [*told, f"{len(lines) - SHOWN} more"] if len(lines) > SHOWN else told


def _seconds(values: Sequence[float]) -> str:
    low, high = units.seconds(min(values)), units.seconds(max(values))
    return low if low == high else f"{low} to {high}"


def _range(values: Sequence[int], one: str, many: str) -> str:
    low, high = min(values), max(values)
    return f"{low} {one if low == 1 else many}" if low == high else f"{low} to {high} {many}"
