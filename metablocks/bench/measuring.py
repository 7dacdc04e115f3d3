"""A case to its record, in this process. A worker calls it, so that its faults and its memory are its own."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from metablocks.bench import clock, contention, memory, summary
from metablocks.bench.case import Case
from metablocks.bench.record import Figures, Record, failed
from metablocks.bench.subject import planned
from metablocks.core import units
from metablocks.core.errors import MetablocksError, MissingError
from metablocks.core.text import printable

if TYPE_CHECKING:
    from torch import nn

    from metablocks.plan import Plan

Tell = Callable[[str], None]
CALM = "close other programs, or raise --seconds"
FOREIGN = 0.1  # share of the processors that other programs may take without a warning
SPREAD = 0.1  # rounds that differ by more than this share of their median are warned about


class CaseFailedError(Exception):
    """The network ran and must not be timed: a word for the record, and a sentence."""

    def __init__(self, failure: str, reason: str) -> None:
        super().__init__(reason)
        self.failure, self.reason = failure, reason


@dataclass(frozen=True)
class Timed:
    """Rounds of `calls` calls each, in seconds, and the warm-up before them."""

    what: str
    warm: clock.WarmUp
    calls: int
    rounds: tuple[float, ...]
    foreign: float | None
    """The share of the processors that other programs took meanwhile."""


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of the batch: its graphs, where they came from, and how far the outputs are off."""

    graphs: int
    cache: str
    difference: float
    limit: float


@dataclass(frozen=True)
class First:
    """The network after its first call at the batch."""

    model: nn.Module
    build_s: float
    call_s: float
    compiled: Compiled | None = None
    """None where the case is eager."""


def measure_case(case: Case, environment: dict[str, Any], tell: Tell) -> Record:
    """The record of a case, whatever happens to it. `tell` hears what is being done."""
    bare = failed(case, clock.stamp(), "error", "not measured")
    record = replace(bare, environment=environment, warnings=_busy(environment))
    try:
        tell("planning")
        plan = planned(case.subject)
        record = _with_costs(record, plan)
        figures, warnings = _figures(case, plan, tell)
        warnings = record.warnings + warnings
        return replace(record, status="ok", failure=None, reason=None, figures=figures, warnings=warnings)
    except (Exception, SystemExit) as error:
        failure, reason = explain(error, case)
        return replace(record, failure=failure, reason=reason)


def _with_costs(record: Record, plan: Plan) -> Record:
    from metablocks.costs import CONVENTION, count

    cost = count(plan).total
    warned = (f"MACs are unknown: no count for {', '.join(cost.unknown)}",) if cost.unknown else ()
    return replace(
        record,
        params=cost.params,
        macs=cost.macs,
        flops=cost.flops,
        unknown_ops=cost.unknown,
        convention=CONVENTION,
        warnings=record.warnings + warned,
    )


def _figures(case: Case, plan: Plan, tell: Tell) -> tuple[Figures, tuple[str, ...]]:
    import torch

    from metablocks.bench import network

    timer, before = clock.Clock(case.device), memory.resident()
    with torch.inference_mode():
        batches = network.inputs(case, plan, case.batch)
        first = _first(case, plan, batches[0], tell)
        call = network.rotating(first.model, batches)
        many = _timed(timer, call, case.seconds, (f"batches of {case.batch}", tell))
        tell("measuring memory")
        worker_peak = memory.resident("VmHWM")
        peak, method = memory.peak(call, case.device, network.held_bytes(first.model))
        call = network.rotating(first.model, network.inputs(case, plan, 1))
        tell("calling with one image")
        with _compiling():
            latency_first = timer.span(call)
        single = _timed(timer, call, case.seconds, ("single images", tell), calls=1)
    q1, middle, q3 = summary.quartiles([case.batch * many.calls / spent for spent in many.rounds])
    figures = Figures(
        images_per_s=middle,
        images_per_s_q1=q1,
        images_per_s_q3=q3,
        rounds_s=many.rounds,
        calls_per_round=many.calls,
        latency_p50_s=summary.quantile(single.rounds, 0.5),
        latency_p90_s=summary.quantile(single.rounds, 0.9),
        latency_rounds_s=single.rounds,
        build_s=first.build_s,
        first_call_s=first.call_s,
        latency_first_call_s=latency_first,
        foreign_cpu_share=many.foreign,
        latency_foreign_cpu_share=single.foreign,
        peak_memory_bytes=peak,
        peak_memory_method=method,
        worker_peak_memory_bytes=worker_peak - before if worker_peak and before else None,
    )
    return _with_compiled(figures, first, many.warm.call_s), _warnings((many, single), figures)


def _timed(timer: clock.Clock, call: clock.Call, seconds: float, told: tuple[str, Tell], calls: int = 0) -> Timed:
    """Warms up and times rounds of `calls` calls; 0: of as many as the clock asks for."""
    what, tell = told
    tell(f"warming up {what}")
    warm = timer.warm_up(call, seconds)
    tell(f"timing {what}")
    calls = calls or clock.calls_per_round(warm.call_s, seconds)
    before = contention.usage()
    rounds = timer.rounds(call, seconds, calls)
    return Timed(what, warm, calls, tuple(rounds), contention.foreign_share(before, contention.usage()))


def _first(case: Case, plan: Plan, images: Any, tell: Tell) -> First:
    """Builds, compiles, and holds the outputs against eager ones before anything is timed."""
    from metablocks.bench import network
    from metablocks.build import compile_network

    timer, built = clock.Clock(case.device), []
    tell("building")
    build_s = timer.span(lambda: built.append(network.network(case, plan)))
    model, outputs = built[0], []
    tell("calling for the first time")
    call_s = timer.span(lambda: outputs.append(model(*images)))
    if not network.finite(outputs[0]):
        raise CaseFailedError("nan_output", "the output of seeded normal images is not finite")
    if case.compile == "none":
        return First(model, build_s, call_s)
    tell("compiling")
    compile_network(model, case.compile)  # type: ignore[arg-type]
    with _compiling():
        call_s = timer.span(lambda: outputs.append(model(*images)))
    seen = network.compared(outputs[0], outputs[1], case.dtype)
    if not seen.agree:
        wrong = f"compiled and eager outputs differ by {seen.difference:.2g} of the largest value"
        raise CaseFailedError("mismatch", f"{wrong}, where {seen.limit:g} is allowed in {case.dtype}")
    return First(model, build_s, call_s, Compiled(*_compiler(), seen.difference, seen.limit))


@contextmanager
def _compiling() -> Iterator[None]:
    from metablocks.build import compiling

    try:
        with compiling():
            yield
    except MissingError:
        raise
    except MetablocksError as error:
        raise CaseFailedError("compile_failed", _sentence(error)) from error


def _compiler() -> tuple[int, str]:
    """How many graphs there are and whether they came from the cache on disk, told by the compiler's own counters."""
    from torch._dynamo.utils import counters

    hits, misses = counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"]
    return counters["stats"]["unique_graphs"], "mixed" if hits and misses else "warm" if hits else "cold"


def _with_compiled(figures: Figures, first: First, call_s: float) -> Figures:
    made = first.compiled
    if made is None:
        return figures
    return replace(
        figures,
        compile_s=max(0.0, first.call_s - call_s),
        compiled_graphs=made.graphs,
        compile_cache=made.cache,
        eager_difference=made.difference,
        eager_difference_limit=made.limit,
    )


def _busy(environment: dict[str, Any]) -> tuple[str, ...]:
    """A bench itself makes a load of one for each CPU at most."""
    load, cpus = environment.get("load_1min"), environment.get("cpus")
    if load is None or cpus is None or load <= cpus + 1:
        return ()
    return (f"other programs were running: a load of {load:g} on {cpus} CPUs; close them",)


def _warnings(timed: tuple[Timed, ...], figures: Figures) -> tuple[str, ...]:
    """What the reader of the figures must know, each with the next step."""
    told = [
        f"{one.what}: not steady after {one.warm.calls} calls in {one.warm.seconds:.1f} s; {CALM}"
        for one in timed
        if not one.warm.steady
    ]
    told += [
        f"{one.what}: other programs took {units.percent(one.foreign)} of the processors meanwhile; close them"
        for one in timed
        if one.foreign is not None and one.foreign > FOREIGN
    ]
    spread = (figures.images_per_s_q3 - figures.images_per_s_q1) / figures.images_per_s
    if spread > SPREAD:
        told.append(f"the middle half of the rounds spreads by {units.percent(spread)}; {CALM}")
    if figures.peak_memory_bytes is None:
        told.append("peak memory is not measured here; run on Linux, or on CUDA")
    return tuple(told)


def explain(error: BaseException, case: Case) -> tuple[str, str]:
    """A word for the kind of failure, and a sentence for the user."""
    from metablocks.build import out_of_memory

    if isinstance(error, CaseFailedError):
        return error.failure, error.reason
    if isinstance(error, MetablocksError):
        return "missing" if isinstance(error, MissingError) else "error", _sentence(error)
    if out_of_memory(error):
        return "out_of_memory", f"out of memory at batch {case.batch}; use a smaller --batch"
    if isinstance(error, SystemExit):
        return "error", f"the network's code ended the process: SystemExit({printable(str(error.code))})"
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({printable(last[0].filename, limit=0)}:{last[0].lineno})" if last else ""
    print("".join(traceback.format_exception(error)), file=sys.stderr)
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return "error", f"{type(error).__name__}: {printable(first, limit=300)}{where}"


def _sentence(error: MetablocksError) -> str:
    fault = error.faults[0]
    return f"{fault.message}; {fault.help}" if fault.help else fault.message
