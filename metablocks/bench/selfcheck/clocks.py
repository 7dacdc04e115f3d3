"""S1, S2: whether the clock tells how long a thing takes, and waits for the device."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from statistics import median

import torch

from metablocks.bench import clock
from metablocks.bench.clock import Call, Clock
from metablocks.bench.selfcheck.check import Check
from metablocks.bench.selfcheck.lab import Lab
from metablocks.bench.selfcheck.subjects import LONG_PAUSE_S
from metablocks.bench.turns import times
from metablocks.core import units

ADVICE = "close other programs and run it again; until it passes, believe no time"
SPINS_S = (0.001, 0.002, 0.004, 0.008)
NEAR = 0.02
CHAIN = (10, 100)
CHAIN_NEAR = 0.05
LATER_S = 0.002  # of a piece of work in the background


def known_delay(lab: Lab) -> Check:
    """A pause in a worker: the whole way from a subject to its record."""
    (record,) = lab.measured(lab.case("long_pause"))
    spent = median(value for process in times(record) for value in process)
    return Check(
        f"{units.seconds(spent)} for a {units.seconds(LONG_PAUSE_S)} pause",
        "in a worker, within 2 %",
        near(spent, LONG_PAUSE_S),
        ADVICE,
        {"pause_s": LONG_PAUSE_S, "measured_s": spent},
    )


def known_product(lab: Lab) -> Check:
    """A matrix product that notes its own time, so that no noise comes between the two."""
    side = 4096 if lab.cuda else 768
    first = torch.randn(side, side, device=lab.device)
    own: list[float] = []

    def call() -> None:
        lab.timer.synchronise()
        start = time.perf_counter_ns()
        torch.mm(first, first)
        lab.timer.synchronise()
        own.append((time.perf_counter_ns() - start) / 1e9)

    spans = lab.timer.turn(call, rounds=9, calls=2, untimed=2)
    ratio = sum(spans) / sum(own[2:])
    return Check(
        f"{units.ratio(ratio)} of its own time",
        "what a product says itself, within 2 %",
        near(ratio, 1),
        ADVICE,
        {"measured_over_own_ratio": ratio},
    )


def near(spent: float, known: float) -> bool:
    """Whether a known cost comes out."""
    return abs(spent / known - 1) <= NEAR


def linear(lab: Lab) -> Check:
    """Spins of known lengths on a line: the slope is 1, and reading the clock adds as much as it says."""
    best = [min(lab.timer.turn(_spin(seconds), rounds=15, calls=1, untimed=1)) for seconds in SPINS_S]
    middle, mean = sum(SPINS_S) / len(SPINS_S), sum(best) / len(best)
    across = sum((one - middle) * (two - mean) for one, two in zip(SPINS_S, best, strict=True))
    slope = across / sum((one - middle) ** 2 for one in SPINS_S)
    fit = across**2 / (sum((one - middle) ** 2 for one in SPINS_S) * sum((two - mean) ** 2 for two in best))
    start, said = mean - slope * middle, clock.overhead_s(lab.device)
    return Check(
        f"slope {units.ratio(slope)}, R2 {units.ratio(fit)}; the clock {units.seconds(said)}",
        "1 to 8 ms: slope 1 to 1 %, R2 over 0.999, clock as stored",
        fit > 0.999 and abs(slope - 1) <= 0.01 and abs(start - said) <= 5e-5,
        ADVICE,
        {"slope": slope, "r_squared": fit, "intercept_s": start, "overhead_s": said},
    )


def _spin(seconds: float) -> Call:
    def call() -> None:
        end = time.perf_counter_ns() + round(seconds * 1e9)
        while time.perf_counter_ns() < end:
            pass

    return call


def chain(lab: Lab) -> Check:
    """Ten times the products take ten times as long."""
    side = 2048 if lab.cuda else 96  # on a CPU short enough to run between two turns of another program
    first, result = torch.randn(side, side, device=lab.device), torch.empty(side, side, device=lab.device)
    ratio = ratio_of(lab.timer, lambda: torch.mm(first, first, out=result), rounds=40)
    return Check(
        f"{units.ratio(ratio)} times",
        "100 products against 10: 9.5 to 10.5 times",
        abs(ratio / 10 - 1) <= CHAIN_NEAR,
        ADVICE,
        {"chain_ratio": ratio},
    )


def ratio_of(timer: Clock, call: Call, rounds: int) -> float:
    """The time of the long chain over that of the short one, each at its best: what disturbs only adds."""
    short, long = CHAIN
    for _ in range(short):
        call()
    spans = [(timer.span(call, long), timer.span(call, short)) for _ in range(rounds)]
    return min(one for one, _ in spans) / min(two for _, two in spans)


def trap(lab: Lab) -> Check:
    """Work that a device does later: our clock waits for it, and one that does not is found out."""
    if lab.cuda:
        return _trap_on_device(lab)
    with Later() as later:
        call = later.put(lambda: time.sleep(LATER_S))
        ours, hasty = _believable(_Waiting(later), call, LATER_S), _believable(Clock("cpu"), call, LATER_S)
        later.wait()
    return _trapped("a thread's work", ours, hasty)


def _trap_on_device(lab: Lab) -> Check:
    first = torch.randn(4096, 4096, device=lab.device)
    least = min(lab.timer.span(lambda: torch.mm(first, first)) for _ in range(5))
    hasty = Clock("cpu")  # never waits

    def call() -> object:
        return torch.mm(first, first)

    found = _believable(lab.timer, call, 0.9 * least), _believable(hasty, call, 0.9 * least)
    lab.timer.synchronise()
    return _trapped("kernels", *found)


def _trapped(what: str, ours: tuple[bool, str], hasty: tuple[bool, str]) -> Check:
    return Check(
        f"ours {ours[1]} of the work, hasty {hasty[1]}",
        f"98 % or more of {what}; a hasty clock fails",
        ours[0] and not hasty[0],
        ADVICE,
    )


def _believable(timer: Clock, call: Call, least_s: float) -> tuple[bool, str]:
    """Whether a clock shows no less than the time that its calls take at the least; with the share of it."""
    share = timer.span(call, CHAIN[0]) / (CHAIN[0] * least_s)
    return share >= 0.98, units.percent(share)


class Later:
    """A thread that does what it is given, in order: a device for machines without one. Use as a context."""

    def __enter__(self) -> Later:
        self._jobs: queue.Queue[Call | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._jobs.put(None)
        self._thread.join()

    def put(self, job: Call) -> Callable[[], None]:
        """A call that leaves a job for later, and returns at once."""
        return lambda: self._jobs.put(job)

    def wait(self) -> None:
        """Until all is done."""
        self._jobs.join()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is not None:
                job()
            self._jobs.task_done()
            if job is None:
                return


class _Waiting(Clock):
    """Our clock, with that thread as its device."""

    def __init__(self, later: Later) -> None:
        super().__init__("cpu")
        self._later = later

    def synchronise(self) -> None:
        self._later.wait()
