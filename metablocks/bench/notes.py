"""What stands below a table of records: failures, warnings, ratios, how to read the columns, the conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metablocks.bench import statistics
from metablocks.bench.record import Record
from metablocks.bench.turns import pairs, times
from metablocks.core import units
from metablocks.core.text import listed, printable

Note = tuple[str, str, str]
"""Key, sentence, style."""

SHOWN = 34  # characters of a name
COLOURS = {"better": "green", "worse": "red"}


def notes(shown: Sequence[Record], measured: Sequence[Record]) -> Iterator[Note]:
    """The notes to the rows that are shown; ratios are those of all pairs that were measured."""
    for record in shown:
        if record.figures is None:
            yield "failed", f"{label(record, shown)}: {printable(record.reason or 'no reason told', limit=0)}", "red"
    for record in shown:
        for text in record.warnings:
            yield "warning", f"{label(record, shown)}: {printable(text, limit=0)}", "yellow"
    yield from _ratios(measured, shown)
    yield from _legend([record for record in shown if record.figures])
    yield from (("device", line, "") for line in _conditions(shown))


def label(record: Record, among: Sequence[Record]) -> str:
    """A row by its network and by what sets it apart from other rows of that network."""
    others = [other for other in among if other.digest == record.digest]
    apart = ("compile", "mode", "batch", "dtype", "device", "image")
    words = [str(getattr(record, key)) for key in apart if len({getattr(other, key) for other in others}) > 1]
    return ", ".join([printable(record.name, SHOWN), *words])


def _ratios(records: Sequence[Record], shown: Sequence[Record]) -> Iterator[Note]:
    """How much faster the other of each pair is than its base. Verdicts allow for there being several."""
    found = pairs(records)
    compared = statistics.judged([statistics.paired(times(base), times(other)) for base, other in found])
    for (base, other), seen in zip(found, compared, strict=True):
        ratio = units.ratio(seen.ratio)
        bounds = "" if seen.low is None or seen.high is None else f" ({_range_of_ratios(seen.low, seen.high)})"
        names = label(other, shown), label(base, shown) if other.digest != base.digest else base.compile
        verdict = {"better": "faster", "worse": "slower"}.get(seen.verdict, "cannot tell")
        doubt = "; see the warnings" if base.verdict != "valid" or other.verdict != "valid" else ""
        one = _latency_ratio(base, other)
        told = f"{names[0]}: {ratio}{bounds} times the images/s of {names[1]}: {verdict}{one}{doubt}"
        yield "ratio", told, COLOURS.get(seen.verdict, "")


def _range_of_ratios(low: float, high: float) -> str:
    return f"{units.ratio(low)} to {units.ratio(high)}"


def _latency_ratio(base: Record, other: Record) -> str:
    """The same for a single image: the ratio of the medians, without a verdict."""
    assert base.figures and other.figures
    if base.figures.latency_p50_s is None or other.figures.latency_p50_s is None:
        return ""
    return f"; one image {units.digits(base.figures.latency_p50_s / other.figures.latency_p50_s)} times as fast"


def _legend(timed: Sequence[Record]) -> Iterator[Note]:
    """How to read the columns that are there."""
    figures = [record.figures for record in timed if record.figures]
    if not any(record.processes for record in timed):
        return
    processes = _range([len(record.processes) for record in timed])
    rounds = _range([len(process.rounds_s) for record in timed for process in record.processes])
    many = "process" if processes == "1" else "processes"
    yield "images/s", f"median over {processes} {many} of {rounds} rounds, and half its 95 % interval", ""
    if any(figure.latency_p50_s for figure in figures):
        yield "latency", "of one image: median and 90th percentile", ""
    methods = {figure.peak_memory_method for figure in figures if figure.peak_memory_method}
    if methods:
        yield "memory", listed(sorted(methods)), ""
    if any(figure.compile_cold_s for figure in figures):
        yield "compile", "of the first call: with an empty cache, and with the cache of an earlier process", ""
    marks = {record.verdict for record in timed}
    if "unstable" in marks:
        yield "?", "unstable: a warning above puts these times in doubt", "yellow"
    if "invalid" in marks:
        yield "!", "invalid: these times cannot be; see the warning", "red"
    conventions = {record.convention for record in timed if record.convention}
    yield from (("MACs", convention.removeprefix("MACs "), "") for convention in conventions)


def _conditions(records: Sequence[Record]) -> Iterator[str]:
    """The conditions of the rows, each set of them once."""
    told: dict[str, None] = {}
    for record in records:
        place = record.environment
        name = f" ({printable(str(place['device_name']))})" if "device_name" in place else ""
        threads = f"{place['threads']} threads" if "threads" in place else ""
        torch = f"torch {printable(str(place['torch']))}" if "torch" in place else ""
        extra = [word.replace("_", " ") for word in ("channels_last", "checkpoint") if getattr(record, word)]
        extra += [f"{record.kernels} kernels"] if record.kernels else []
        extra += ["freed memory kept"] if place.get("freed_memory") == "kept" else []
        words = [f"{record.device}{name}", record.mode, record.dtype, *extra, threads, torch, "random weights"]
        told[", ".join(filter(None, words))] = None
    # a worker that died at once does not know its device; the rows beside it do
    yield from [line for line in told if "torch" in line] or told


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"
