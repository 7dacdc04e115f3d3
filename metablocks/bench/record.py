"""What a case came to. Dumb: a record cannot print; what was not measured is absent, never 0.

In JSON a record is one flat object with units in its keys; keys without a value are left out. `docs/records.md` tells
what every key means.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from metablocks.bench.case import Case

SCHEMA = 2


@dataclass(frozen=True)
class Process:
    """What one worker measured: raw times, and what stood around them. Rounds of a pair belong together by index."""

    rounds_s: tuple[float, ...]
    """Seconds of each round of `calls_per_round` calls on a batch (of steps, where the mode trains)."""
    calls_per_round: int
    wall_s: float
    """Of the loop in which these rounds were timed, with those of the partner in it."""
    steady: bool
    """Whether the warm-up ended because the times had become steady, and not because its time was over."""
    warm_up_calls: int
    warm_up_s: float
    build_s: float
    first_call_s: float
    """The first call at the batch: compiles, where the case compiles."""
    latency_rounds_s: tuple[float, ...] = ()
    """Seconds of each call with a single image."""
    latency_first_call_s: float | None = None
    parts_s: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Seconds of forward, backward and optimiser in steps that were timed apart from the rounds."""
    compile_s: float | None = None
    """The first call less a steady one."""
    compile_cache: str | None = None
    """cold: nothing was there; warm: everything came from the compiler's cache on disk; mixed."""
    foreign_cpu_share: float | None = None
    """Of the processors, that other programs took while rounds were timed. 0 to 1."""
    sensors: dict[str, Any] = field(default_factory=dict)
    """Clocks, temperature, power and throttle reasons over the rounds, by name with units; what there was to read."""
    worker_peak_memory_bytes: int | None = None
    """Largest growth of the worker over what it held before the build: with the build and the compiler."""


@dataclass(frozen=True)
class Figures:
    """What the processes say together. Quartiles are of all rounds; `low` and `high` bound the median with 95 %."""

    images_per_s: float
    images_per_s_q1: float
    images_per_s_q3: float
    images_per_s_low: float | None = None
    images_per_s_high: float | None = None
    """None where there is one process: rounds within a process are not independent."""
    latency_p50_s: float | None = None
    latency_p90_s: float | None = None
    latency_p99_s: float | None = None
    forward_s: float | None = None
    backward_s: float | None = None
    optimiser_s: float | None = None
    build_s: float | None = None
    first_call_s: float | None = None
    compile_cold_s: float | None = None
    compile_warm_s: float | None = None
    compiled_graphs: int | None = None
    graph_breaks: int | None = None
    recompiles: int | None = None
    eager_difference: float | None = None
    """Largest difference to the eager outputs, relative to the largest eager value."""
    eager_difference_limit: float | None = None
    flops_per_s: float | None = None
    """FLOPs of the network in evaluation (three times those for a step that trains) times images_per_s."""
    peak_memory_bytes: int | None = None
    peak_memory_method: str | None = None
    parameters_bytes: int | None = None
    gradients_bytes: int | None = None
    optimiser_bytes: int | None = None
    activations_bytes: int | None = None
    """What is left of the peak: activations and what an operation needs for itself."""
    predicted_peak_memory_bytes: int | None = None
    predicted_peak_memory_error: float | None = None
    """(predicted - measured) / measured."""


@dataclass(frozen=True)
class Record:
    """One row of the results: `figures` where `status` is ok, else `failure`, a word, and `reason`, a sentence.

    `verdict` of what is ok: valid; unstable, where a warning puts the times in doubt; invalid, where they cannot be.
    Two records with one `pair` were measured round by round in turns, the `base` and the `other`.
    """

    schema: int
    time: str
    status: str
    name: str
    subject: str
    kind: str
    """spec, timm, torchvision, file"""
    digest: str
    """Of the resolved spec, the name of a peer, the source of a file."""
    mode: str
    batch: int
    dtype: str
    device: str
    compile: str
    seconds: float
    run: str | None = None
    pair: str | None = None
    role: str | None = None
    """base or other"""
    verdict: str | None = None
    channels_last: bool = False
    checkpoint: bool | float = False
    kernels: str | None = None
    """The path of a spec: fused or reference. Records from before there were two have none."""
    edits: tuple[str, ...] = ()
    spec: dict[str, Any] | None = None
    image: tuple[int, int] | None = None
    """Height and width in pixels."""
    failure: str | None = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    params: int | None = None
    macs: int | None = None
    flops: int | None = None
    activations: int | None = None
    """Elements of the outputs of matrix products, convolutions and attention, for one image."""
    unknown_ops: tuple[str, ...] = ()
    convention: str | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    """What the device reached beside this case: FLOPs a second of a product, bytes a second of a copy."""
    tried: dict[str, str] = field(default_factory=dict)
    """What runs because it was the fastest where it was tried, by what is computed."""
    figures: Figures | None = None
    processes: tuple[Process, ...] = ()
    parts: tuple[dict[str, Any], ...] = ()
    """Rows of `bench --per-block`: see `metablocks.bench.per_block`."""


Cell = tuple[object, ...]


def cell(record: Record) -> Cell:
    """What was asked for: two records of one cell are two measurements of the same thing."""
    return (
        *(record.subject, record.kind, record.digest, record.mode, record.batch, record.dtype, record.device),
        *(record.compile, record.channels_last, record.checkpoint, record.kernels or "reference"),
    )


def bare(case: Case, time: str) -> Record:
    """The record of a case of which nothing is known yet: a failure until it is told otherwise."""
    subject = case.subject
    return Record(
        schema=SCHEMA,
        time=time,
        status="failed",
        name=subject.name,
        subject=subject.given,
        kind=subject.kind,
        digest=subject.digest,
        edits=subject.edits,
        spec=subject.spec,
        mode=case.mode,
        batch=case.batch,
        dtype=case.dtype,
        device=case.device,
        compile=case.compile,
        channels_last=case.channels_last,
        checkpoint=case.checkpoint,
        kernels=case.kernels,
        seconds=case.seconds,
        failure="error",
        reason="not measured",
    )


def to_data(record: Record) -> dict[str, Any]:
    """The record as plain data: flat, without the keys that have no value."""
    data = {item.name: getattr(record, item.name) for item in dataclasses.fields(record) if item.name != "figures"}
    data |= dataclasses.asdict(record.figures) if record.figures else {}
    data["processes"] = [_valued(dataclasses.asdict(process)) for process in record.processes]
    return {key: _plain(value) for key, value in _valued(data).items()}


def from_data(data: dict[str, Any]) -> Record:
    """The record of what `to_data` gave. Raises `ValueError` for anything else; keys that are not ours are left."""
    try:
        if data["schema"] not in (1, SCHEMA):
            raise TypeError(f"schema {data['schema']!r:.20}")
        data = _from_schema_1(data) if data["schema"] == 1 else data
        own = _pick(Record, data)
        own["processes"] = tuple(_process(process) for process in data.get("processes", ()))
        figures = Figures(**_pick(Figures, data)) if data["status"] == "ok" else None
        if figures is not None and not (own["processes"] and figures.images_per_s > 0 and own["batch"] > 0):
            raise TypeError("no times")
        return Record(**own, figures=figures)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record: {error}") from error


def dumps(record: Record) -> str:
    """The record as one line of strict JSON."""
    return json.dumps(to_data(record), allow_nan=False)


def _from_schema_1(data: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had one process, whose times stood in the record itself, and nothing but specs."""
    process = data | {"steady": True, "warm_up_calls": 0, "warm_up_s": 0.0, "wall_s": 0.0}
    own = {"kind": "spec", "digest": data["spec_digest"], "processes": [process] if data["status"] == "ok" else []}
    cold = {"compile_cold_s": data["compile_s"]} if data.get("compile_cache") == "cold" else {}
    return data | own | cold | {"schema": SCHEMA}


def _process(data: dict[str, Any]) -> Process:
    made = Process(**_pick(Process, data))
    times = (*made.rounds_s, *made.latency_rounds_s)
    if not made.rounds_s or made.calls_per_round < 1 or not all(0 < spent < math.inf for spent in times):
        raise TypeError("no times")
    parts = {name: tuple(spans) for name, spans in made.parts_s.items()}
    return dataclasses.replace(made, parts_s=parts)


def _pick(cls: type, data: dict[str, Any]) -> dict[str, Any]:
    """The fields of a class, each of its type: whoever reads a file has to be able to trust what comes out."""
    kinds = _kinds(cls)
    found = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key in kinds}
    for key, value in found.items():
        own, items = kinds[key]
        if type(value) not in own or (type(value) is tuple and not items.issuperset(map(type, value))):
            raise TypeError(f"`{key}` is {type(value).__name__}")
    return found


@cache
def _kinds(cls: type) -> dict[str, tuple[set[type], set[type]]]:
    """The types that a value of each field may have as it comes from JSON, and those of its items."""
    return {key: (_own_kinds(hint), _item_kinds(hint)) for key, hint in get_type_hints(cls).items()}


def _own_kinds(hint: Any) -> set[type]:
    if isinstance(hint, types.UnionType):
        return {kind for one in get_args(hint) for kind in _own_kinds(one)}
    return {int, float} if hint is float else {dict} if hint is Process else {get_origin(hint) or hint}


def _item_kinds(hint: Any) -> set[type]:
    if isinstance(hint, types.UnionType):
        return {kind for one in get_args(hint) for kind in _item_kinds(one)}
    return _own_kinds(get_args(hint)[0]) if get_origin(hint) is tuple else set()


def _valued(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}


def _plain(value: Any) -> Any:
    """JSON knows neither tuples nor infinities: a number that is none is null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
