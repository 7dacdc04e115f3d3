"""The only place that reads time: one monotonic clock, synchronised with the device before and after every span.

The time of day is a label and nothing more: no duration comes from it, so that a jump of it changes none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

Call = Callable[[], object]

STEADY = 0.05  # the two halves of a warm-up's end agree within this share
LEAST_WARM = (4, 0.2)  # spans and seconds that a steady warm-up has
WARM_SPAN_S = 0.005  # quick calls are warmed up in spans of about this, or judging them would cost more than calling
LEAST_ROUNDS = 7
MOST_ROUNDS = 500  # raw rounds are kept in the record, which has to stay small
ROUNDS_WANTED = 50
OVERHEAD = 1e-3  # of a round, that reading the clock may take
WAITING_S = 1e-4  # waiting for a device may take so much longer than the device was busy


@dataclass(frozen=True)
class WarmUp:
    """How a warm-up went; `call_s` is its estimate of one call."""

    steady: bool
    calls: int
    seconds: float
    call_s: float


class Clock:
    """Times calls on one device."""

    def __init__(self, device: str) -> None:
        self.cuda, self.mps = device.startswith("cuda"), device.startswith("mps")
        self.device = device

    def synchronise(self) -> None:
        """Waits until the device has done what it was given."""
        if self.cuda:
            import torch

            torch.cuda.synchronize(self.device)
        elif self.mps:
            import torch

            torch.mps.synchronize()

    def span(self, call: Call, calls: int = 1) -> float:
        """Seconds that `calls` calls take together."""
        return self._span_by_events(call, calls) if self.cuda else self._span(call, calls)

    def _span(self, call: Call, calls: int) -> float:
        self.synchronise()
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        self.synchronise()
        return (time.perf_counter_ns() - start) / 1e9

    def _span_by_events(self, call: Call, calls: int) -> float:
        import torch

        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        stream = torch.cuda.current_stream(self.device)

        def marked() -> None:
            first.record(stream)
            for _ in range(calls):
                call()
            last.record(stream)

        waited = self._span(marked, 1)
        # The events see one stream. Work on another one ends after the last of them, and only waiting tells of it.
        return max(first.elapsed_time(last) / 1e3, waited - WAITING_S)

    def turn(self, call: Call, rounds: int, calls: int, untimed: int) -> list[float]:
        """Seconds of each of `rounds` rounds of `calls` calls, after `untimed` calls that bring caches and clocks back.

        Nothing but the calls and the clock runs meanwhile: what else there is to read is read before or after a turn.
        """
        for _ in range(untimed):
            call()
        return [self.span(call, calls) for _ in range(rounds)]

    def warm_up(self, call: Call, limit_s: float) -> WarmUp:
        """Calls until the time of a call is steady, or until one more would end after `limit_s`. At least one call."""
        spans: list[float] = []
        start, calls, made = now(), 1, 0
        while True:
            took = self.span(call, calls)
            spans.append(took / calls)
            spent, made = now() - start, made + calls
            steady = len(spans) >= LEAST_WARM[0] and spent >= LEAST_WARM[1] and _steady(spans)
            if took < WARM_SPAN_S / 2:
                calls, took = 2 * calls, 2 * took
            if steady or spent + took > limit_s:
                return WarmUp(steady, made, spent, median(spans[len(spans) // 2 :]))

    def rounds(self, call: Call, seconds: float, calls: int = 1) -> list[float]:
        """Seconds of each round of `calls` calls: for `seconds`, at least 7 rounds and at most 500."""
        spans: list[float] = []
        start = now()
        while len(spans) < LEAST_ROUNDS or (now() - start < seconds and len(spans) < MOST_ROUNDS):
            spans.append(self.span(call, calls))
        return spans


def overhead_s(device: str) -> float:
    """Seconds that a span of a call that does nothing shows: what reading the clock adds to every round."""
    timer = Clock(device)
    return median(timer.turn(_nothing, rounds=51, calls=1, untimed=10))


def calls_per_round(call_s: float, seconds: float, overhead_s: float = 0.0) -> int:
    """So many calls that `seconds` hold about 50 rounds, and that reading the clock is at most 0.1 % of a round."""
    call_s = max(call_s, 1e-6)
    return max(1, round(seconds / ROUNDS_WANTED / call_s), math.ceil(overhead_s / OVERHEAD / call_s))


def _nothing() -> None:
    pass


def _steady(spans: list[float]) -> bool:
    end = spans[len(spans) // 2 :]
    older, newer = median(end[: len(end) // 2]), median(end[len(end) // 2 :])
    return abs(older - newer) <= STEADY * newer


def now() -> float:
    """Seconds of a clock that never jumps; its zero means nothing."""
    return time.perf_counter_ns() / 1e9


def processor_s() -> float:
    """Seconds that this process has kept processors busy, all its threads together."""
    return time.process_time_ns() / 1e9


def suspended_s() -> float | None:
    """Seconds that the machine has slept since it started; None where the system does not tell.

    The clock stands still while the machine sleeps, so no round shows it, but caches and clock rates are cold after.
    """
    awake_and_asleep = getattr(time, "CLOCK_BOOTTIME", None)
    if awake_and_asleep is None:
        return None
    return time.clock_gettime(awake_and_asleep) - time.clock_gettime(time.CLOCK_MONOTONIC)


def slept_s(since: float | None) -> float | None:
    """Seconds that the machine has slept since `suspended_s()` gave `since`; less than 0.1 s is none."""
    until = suspended_s()
    if since is None or until is None:
        return None
    return until - since if until - since >= 0.1 else 0.0


def stamp() -> str:
    """The time of day, as a label: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
