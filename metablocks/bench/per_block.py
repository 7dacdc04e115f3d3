"""Where the time of a call goes: each part of a network on the clock, in place, and beside it the device's roof.

A part's least time is that of its FLOPs at the peak of products or that of its bytes at the peak of a copy,
whichever is longer: the roofline. Its share of the peak is the least time over the measured one. It can pass 1 where a
part finds its inputs in a cache, which a copy out of cache does not.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import Any, TypeVar

import torch
from torch import nn

from metablocks.bench import clock
from metablocks.bench.case import Case
from metablocks.bench.models import Subject
from metablocks.bench.work import Work, options
from metablocks.build import skeleton
from metablocks.core import units
from metablocks.costs.traffic import REST, Key, Tape, Watched, least_bytes, macs, size, watching
from metablocks.plan import Plan

T = TypeVar("T")

WHOLE: Key = ("network", "network", "")
LEAST_PAIRS = 5
MOST_PAIRS = 200
OVERHEAD = 0.05  # of the clock inside the network, that is warned about


@dataclass(frozen=True)
class Timed:
    """Seconds of a call by key, and of one with no clock inside; what share the clock adds, where that can be told."""

    seconds: dict[Key, float]
    plain_s: float
    overhead: float | None
    calls: int


def per_block(case: Case, subject: Subject, work: Work, peaks: Mapping[str, float]) -> tuple[dict[str, Any], ...]:
    """Rows in the order of the network; what a row adds up over is one call at the batch, forward only in every mode.

    Inside blocks an eager network is seen by norm, mixer, MLP and residual (with scales and drop path); compiled blocks
    are seen whole, and so is a network that is one graph: its only row is `network`. Other people's networks are seen
    by their direct children, and where one is a list or a sequence, by what is in it. The last row is the rest of the
    call, and tells of the timing itself:

    part, what, name: where it is, what it is (stem, norm, mixer, mlp, residual, block, downsample, head, other,
    network), and which. calls: of its modules. seconds, and share of the call, 0 to 1. macs: of the whole batch. bytes:
    the least traffic, inputs and parameters read once and outputs written once. intensity_macs_per_byte, flops_per_s,
    share_of_peak. None where it is not known. Last row: plain_call_s, with no clock inside;
    overhead_share, which the clock adds, None where that is lost in the spread; timed_calls.
    """
    watched = seen(case, subject.model, subject.plan)
    timed = _timed(case, work, watched)
    counted, moved = _macs(case, subject, work), least_bytes(lambda: work.run(work.inputs[0]), watched)
    rest = REST
    if not watched:
        rest, output = WHOLE, work.run(work.inputs[0])
        moved = {REST: size(work.inputs[0]) + size(output) + size(list(subject.model.parameters()))}
    calls = Counter(one.key for one in watched if one.key in timed.seconds)  # what was never called has no time
    whole = sum(timed.seconds.values())
    roof = peaks.get(f"peak_flops_per_s_{case.dtype.removeprefix('amp_')}"), peaks.get("peak_copy_bytes_per_s")
    rows = []
    for key in (*calls, REST):
        part, what, name = rest if key == REST else key
        seconds = timed.seconds[key]
        row = {"part": part, "what": what, "name": name, "calls": calls.get(key, 1), "seconds": seconds}
        rows.append(row | {"share": seconds / whole} | _rates(seconds, counted.get(key), moved.get(key), roof))
    rows[-1] |= {"plain_call_s": timed.plain_s, "overhead_share": timed.overhead, "timed_calls": timed.calls}
    return tuple(rows)


def warnings(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What puts the rows in doubt, with the next step."""
    told = []
    overhead = rows[-1]["overhead_share"]
    if overhead is not None and overhead > OVERHEAD:
        longer = f"the clock inside the network made a call {units.percent(overhead)} longer"
        told.append(f"{longer}, so small parts look too large; raise --batch or --seconds")
    if all(row["macs"] is None for row in rows):
        told.append("MACs by part are unknown: the network does not run on the meta device")
    return tuple(told)


def seen(case: Case, model: nn.Module, plan: Plan | None) -> list[Watched]:
    """The modules of a network on which a clock can stand, with where and what they are, in its order."""
    if plan is not None and case.compile != "model":
        return list(_network(model, plan, whole=case.compile == "block"))
    # a graph has no inside, and what stands on its outside would be compiled into it
    return list(_children(model)) if plan is None and case.compile == "none" else []


def _network(model: Any, plan: Plan, whole: bool) -> Iterator[Watched]:
    # the graphs of a masked autoencoder have its smaller parts inside
    joints = model.joints if plan.decoder and whole else None
    yield Watched(joints.hide if joints else model.encoder.stem, ("stem", "stem", plan.encoder.stem.stem.name))
    yield from _stages("", model.encoder.stages, plan.encoder.stages, whole)
    if plan.norm and not joints:
        yield Watched(model.norm, ("norm", "norm", plan.norm.norm.name))
    if plan.head:
        yield Watched(model.head, ("head", "head", ""))
    if plan.decoder:
        decoder = model.decoder
        yield Watched(joints.fill if joints else decoder.embed, ("decoder.embed", "stem", "linear"))
        yield from _stages("decoder.", decoder.stages, plan.decoder.stages, whole)
        if not joints:
            yield Watched(decoder.norm, ("decoder.norm", "norm", plan.decoder.norm.norm.name))
        yield Watched(joints.predict if joints else decoder.predict, ("predict", "head", "linear"))


def _stages(prefix: str, stages: Any, planned: Sequence[Any], whole: bool) -> Iterator[Watched]:
    for index, (stage, plan) in enumerate(zip(stages, planned, strict=True)):
        part = f"{prefix}stages.{index}"
        if stage.downsample is not None:
            yield Watched(stage.downsample, (f"{part}.downsample", "downsample", plan.downsample.downsample.name))
        for block, one in zip(stage.blocks, plan.blocks, strict=True):
            if whole:
                yield Watched(block, (part, "block", one.kind.mixer.name))
            else:
                yield from _block(part, block, one.kind)


def _block(part: str, block: Any, kind: Any) -> Iterator[Watched]:
    """Norm, mixer and MLP; what is left of a branch is its residual."""
    for what, name, branch in (("mixer", kind.mixer.name, block.mixer), ("mlp", "", block.mlp)):
        if branch is None:
            continue
        if not isinstance(branch.norm, nn.Identity):
            yield Watched(branch.norm, (part, "norm", kind.residual.norm.name))
        yield Watched(branch.op, (part, what, name))
        yield Watched(branch, (part, "residual", ""))


def _children(model: nn.Module) -> Iterator[Watched]:
    for name, child in model.named_children():
        listed = isinstance(child, nn.ModuleList | nn.Sequential)
        inside = [(f"{name}.{index}", one) for index, one in child.named_children()] if listed else [(name, child)]
        yield from (Watched(module, (part, "block", type(module).__name__)) for part, module in inside)


def _timed(case: Case, work: Work, watched: Sequence[Watched]) -> Timed:
    """Calls in turns, one watched and one not, for the seconds of the case.

    Shares are means over the middle half of the calls: these add up, which medians do not.
    """
    timer, following = clock.Clock(case.device), itertools.cycle(work.inputs)

    def call() -> None:
        work.run(next(following))

    def with_clock() -> tuple[float, dict[Key, float]]:
        read, between = _meter(case.device)
        tape = Tape(read)
        with watching(watched, tape):
            spent = timer.span(partial(tape.run, call))
        shares: dict[Key, float] = {}
        for key, first, last in tape.intervals():
            shares[key] = shares.get(key, 0.0) + between(first, last)
        return spent, shares

    call()
    with_clock()
    plain: list[float] = []
    clocked: list[tuple[float, dict[Key, float]]] = []
    end = clock.now() + case.seconds
    while len(plain) < LEAST_PAIRS or (clock.now() < end and len(plain) < MOST_PAIRS):
        plain.append(timer.span(call))
        clocked.append(with_clock())
    middle = _middle_half(sorted((shares for _, shares in clocked), key=lambda shares: sum(shares.values())))
    keys = dict.fromkeys(key for shares in middle for key in shares)
    seconds = {key: mean(shares.get(key, 0.0) for shares in middle) for key in keys}
    usual = _middle_half(sorted(plain))
    return Timed(seconds, mean(usual), _overhead(usual, [spent for spent, _ in clocked]), len(clocked))


def _overhead(plain: Sequence[float], clocked: Sequence[float]) -> float | None:
    """How much longer calls with a clock inside take; None where that is lost in the spread of those without."""
    return min(clocked) / min(plain) - 1 if min(clocked) > max(plain) else None


def _middle_half(items: Sequence[T]) -> Sequence[T]:
    return items[len(items) // 4 : len(items) - len(items) // 4]


def _meter(device: str) -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    """Reads the time where the device is, without waiting for it; and the seconds between two readings."""
    if not device.startswith("cuda"):
        return clock.now, lambda first, last: last - first
    stream = torch.cuda.current_stream(device)
    return lambda: stream.record_event(torch.cuda.Event(enable_timing=True)), lambda a, b: a.elapsed_time(b) / 1e3


def _macs(case: Case, subject: Subject, work: Work) -> dict[Key, int | None]:
    """Multiply-accumulates of a batch by key, from an eager copy on meta; none where it does not run there."""
    try:
        net = (skeleton(subject.plan) if subject.plan else deepcopy(subject.model)).to("meta").float()
        inputs = [torch.empty_like(one, device="meta") for one in work.inputs[0]]
        inputs = [one.float() if one.is_floating_point() else one for one in inputs]
        called = partial(net.eval(), **options(net, work.optimiser is not None))
        return macs(called, inputs, seen(case, net, subject.plan))
    except Exception:  # a foreign network, or mixer, may do what cannot be done on meta
        return {}


def _rates(
    seconds: float, macs: int | None, moved: int | None, roof: tuple[float | None, float | None]
) -> dict[str, Any]:
    """What a part does, and how near to the roof (FLOP/s, bytes/s) it does it."""
    flops_roof, copy_roof = roof
    rates: dict[str, Any] = {"macs": macs, "bytes": moved}
    rates["intensity_macs_per_byte"] = macs / moved if macs is not None and moved else None
    rates["flops_per_s"] = 2 * macs / seconds if macs is not None and seconds > 0 else None
    rates["share_of_peak"] = None
    if macs is not None and moved and seconds > 0 and copy_roof and (flops_roof or not macs):
        least = max(2 * macs / flops_roof if flops_roof else 0.0, moved / copy_roof)
        rates["share_of_peak"] = least / seconds
    return rates
