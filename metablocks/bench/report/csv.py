"""Records as CSV. First the columns of timm's own results files with their units, so that notebooks that were written
for those read it; then ours, with units in their names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from metablocks.bench.record import Record
from metablocks.bench.report.facts import Key, figure, number, positive, sound, warnings
from metablocks.core.text import printable

INFER = ("infer_samples_per_sec", "infer_step_time", "infer_batch_size", "infer_img_size", "infer_gmacs", "infer_macts")
TRAIN = ("train_samples_per_sec", "train_step_time", "train_batch_size", "train_img_size")
TIMM = ("model", *INFER, *TRAIN, "param_count")
"""Step times in ms, activations in millions, parameters in millions, the width of the image in pixels."""

TEXTS = ("status", "failure", "reason", "verdict", "warnings", "time", "name", "subject", "kind", "digest", "mode",
         "dtype", "device", "device_name", "torch", "compile", "kernels", "run", "pair", "role", "edits", "unknown_ops",
         "peak_memory_method")  # fmt: skip
COUNTS = ("params", "macs", "flops", "activations", "image_height", "image_width", "batch", "processes", "rounds")
MEASURED = (
    "images_per_s", "images_per_s_low", "images_per_s_high", "images_per_s_q1", "images_per_s_q3",
    "latency_p50_s", "latency_p90_s", "latency_p99_s", "forward_s", "backward_s", "optimiser_s",
    "build_s", "first_call_s", "compile_cold_s", "compile_warm_s", "compiled_graphs", "graph_breaks", "recompiles",
    "eager_difference", "flops_per_s", "peak_memory_bytes", "parameters_bytes", "gradients_bytes", "optimiser_bytes",
    "activations_bytes", "predicted_peak_memory_bytes", "predicted_peak_memory_error",
)  # fmt: skip
FLAGS = ("channels_last", "checkpoint")

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that starts so is a formula to a spreadsheet."""


def csv_text(records: Sequence[Record]) -> str:
    """All records, one row each under one line of headings. What is absent is an empty cell."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_MINIMAL, strict=True)
    writer.writerow((*TIMM, *TEXTS, *FLAGS, *COUNTS, *MEASURED))
    writer.writerows(list(_row(record)) for record in sound(records))
    return file.getvalue()


def _row(record: Record) -> Iterator[str]:
    yield from map(_cell, _timm(record))
    yield from map(_cell, _texts(record))
    yield from (_flag(getattr(record, name)) for name in FLAGS)
    yield from map(_cell, _counts(record))
    yield from (_cell(figure(record, name)) if record.figures else "" for name in MEASURED)


def _flag(value: object) -> str:
    return repr(value) if type(value) is float else str(value is True).lower()


def _timm(record: Record) -> Iterator[Key]:
    """The name without `timm:`, as timm itself has it; figures under the heading of the mode."""
    name = str(record.name)
    yield name.removeprefix("timm:") if record.kind == "timm" else name
    speed = positive(record.figures.images_per_s) if record.figures else None
    batch, (_, width) = number(record.batch), _image(record)
    step = None if speed is None or batch is None else 1e3 * batch / speed
    measured = (speed, step, batch, width)
    if record.mode == "infer":
        yield from (*measured, _scaled(record, "macs", 1e9), _scaled(record, "activations", 1e6))
        yield from (None for _ in TRAIN)
    else:
        yield from (None for _ in INFER)
        yield from measured
    yield _scaled(record, "params", 1e6)


def _texts(record: Record) -> Iterator[Key]:
    place, ours = record.environment, record.figures
    given = {
        "warnings": "; ".join(warnings(record)) or None,
        "device_name": place.get("device_name"),
        "torch": place.get("torch"),
        "edits": " ".join(map(str, record.edits)) or None,
        "unknown_ops": " ".join(map(str, record.unknown_ops)) or None,
        "peak_memory_method": ours.peak_memory_method if ours else None,
    }
    found = (given[name] if name in given else getattr(record, name) for name in TEXTS)
    yield from (None if value is None else str(value) for value in found)


def _counts(record: Record) -> Iterator[Key]:
    height, width = _image(record)
    ours = {"image_height": height, "image_width": width, "processes": len(record.processes) or None,
            "rounds": sum(len(process.rounds_s) for process in record.processes) or None}  # fmt: skip
    yield from (ours[name] if name in ours else figure(record, name) for name in COUNTS)


def _image(record: Record) -> tuple[float | None, float | None]:
    size = record.image
    return (number(size[0]), number(size[1])) if isinstance(size, tuple) and len(size) == 2 else (None, None)


def _scaled(record: Record, name: str, unit: float) -> float | None:
    value = figure(record, name)
    return None if value is None else value / unit


def _cell(value: Key) -> str:
    """A number as it is, without a point where it is whole; a text on one line that no spreadsheet will run."""
    if value is None:
        return ""
    if isinstance(value, str):
        text = printable(value, limit=0)
        return f"'{text}" if value.startswith(FORMULA) else text
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
