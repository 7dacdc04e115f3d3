"""What a case came to. Dumb: a record cannot print; what was not measured is absent, never 0.

In JSON a record is one flat object with units in its keys; keys without a value are left out.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from metablocks.bench.case import Case

SCHEMA = 1


@dataclass(frozen=True)
class Figures:
    """What was measured. Quartiles are of the rounds; a latency is of a batch of one image."""

    images_per_s: float
    images_per_s_q1: float
    images_per_s_q3: float
    rounds_s: tuple[float, ...]
    calls_per_round: int
    latency_p50_s: float
    latency_p90_s: float
    latency_rounds_s: tuple[float, ...]
    build_s: float
    first_call_s: float
    """The first call at the batch: compiles, where the case compiles."""
    latency_first_call_s: float
    foreign_cpu_share: float | None = None
    """Of the processors, while batches were timed; `latency_...` while single images were. 0 to 1."""
    latency_foreign_cpu_share: float | None = None
    compile_s: float | None = None
    """The first call less a steady one."""
    compiled_graphs: int | None = None
    compile_cache: str | None = None
    """cold: nothing was there; warm: everything came from the compiler's cache on disk; mixed."""
    eager_difference: float | None = None
    """Largest difference to the eager outputs, relative to the largest eager value."""
    eager_difference_limit: float | None = None
    peak_memory_bytes: int | None = None
    peak_memory_method: str | None = None
    worker_peak_memory_bytes: int | None = None
    """Largest growth of the worker over what it held before the build: with the build and the compiler."""


@dataclass(frozen=True)
class Record:
    """One row of the results: `figures` where `status` is ok, else `failure`, a word, and `reason`, a sentence."""

    schema: int
    time: str
    status: str
    name: str
    subject: str
    edits: tuple[str, ...]
    spec: dict[str, Any]
    spec_digest: str
    mode: str
    batch: int
    dtype: str
    device: str
    compile: str
    seconds: float
    failure: str | None = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    params: int | None = None
    macs: int | None = None
    flops: int | None = None
    unknown_ops: tuple[str, ...] = ()
    convention: str | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    figures: Figures | None = None


def failed(case: Case, time: str, failure: str, reason: str) -> Record:
    """The record of a case of which nothing is known yet but that it failed."""
    return Record(
        schema=SCHEMA,
        time=time,
        status="failed",
        name=case.subject.name,
        subject=case.subject.given,
        edits=case.subject.edits,
        spec=case.subject.spec,
        spec_digest=case.subject.digest,
        mode=case.mode,
        batch=case.batch,
        dtype=case.dtype,
        device=case.device,
        compile=case.compile,
        seconds=case.seconds,
        failure=failure,
        reason=reason,
    )


def to_data(record: Record) -> dict[str, Any]:
    """The record as plain data: flat, without the keys that have no value."""
    data = {item.name: getattr(record, item.name) for item in dataclasses.fields(record) if item.name != "figures"}
    data |= dataclasses.asdict(record.figures) if record.figures else {}
    return {key: _plain(value) for key, value in data.items() if value is not None}


def from_data(data: dict[str, Any]) -> Record:
    """The record of what `to_data` gave. Raises `ValueError` for anything else; keys that are not ours are left."""
    try:
        own = _pick(Record, data)
        figures = Figures(**_pick(Figures, data)) if data["status"] == "ok" else None
        return Record(**own, figures=figures)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a record: {error}") from error


def dumps(record: Record) -> str:
    """The record as one line of strict JSON."""
    return json.dumps(to_data(record), allow_nan=False)


def _pick(cls: type, data: dict[str, Any]) -> dict[str, Any]:
    names = {item.name for item in dataclasses.fields(cls)}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key in names}


def _plain(value: Any) -> Any:
    """JSON knows neither tuples nor infinities: a number that is none is null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
