"""The only place that reads time: one monotonic clock, synchronised with the device before and after every span."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

Call = Callable[[], object]

STEADY = 0.05  # the two halves of a warm-up's end agree within this share
LEAST_WARM = (4, 0.2)  # calls and seconds that every warm-up has
LEAST_ROUNDS = 7
MOST_ROUNDS = 500  # raw rounds are kept in the record, which has to stay small
ROUNDS_WANTED = 50


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
        self.cuda = device.startswith("cuda")
        self.device = device

    def synchronise(self) -> None:
        """Waits until the device has done what it was given."""
        if self.cuda:
            import torch

            torch.cuda.synchronize(self.device)

    def span(self, call: Call, calls: int = 1) -> float:
        """Seconds that `calls` calls take together."""
        self.synchronise()
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        self.synchronise()
        return (time.perf_counter_ns() - start) / 1e9

    def warm_up(self, call: Call, limit_s: float) -> WarmUp:
        """Calls until the time of a call is steady, or `limit_s` is over."""
        spans: list[float] = []
        start = now()
        while True:
            spans.append(self.span(call))
            spent, enough = now() - start, len(spans) >= LEAST_WARM[0]
            steady = enough and spent >= LEAST_WARM[1] and _steady(spans)
            if steady or (enough and spent >= limit_s):
                return WarmUp(steady, len(spans), spent, median(spans[len(spans) // 2 :]))

    def rounds(self, call: Call, seconds: float, calls: int = 1) -> list[float]:
        """Seconds of each round of `calls` calls: for `seconds`, at least 7 rounds and at most 500."""
        spans: list[float] = []
        start = now()
        while len(spans) < LEAST_ROUNDS or (now() - start < seconds and len(spans) < MOST_ROUNDS):
            spans.append(self.span(call, calls))
        return spans


def calls_per_round(call_s: float, seconds: float) -> int:
    """So many calls that `seconds` hold about 50 rounds, and reading the clock costs nothing beside a round."""
    return max(1, round(seconds / ROUNDS_WANTED / max(call_s, 1e-6)))


def _steady(spans: list[float]) -> bool:
    end = spans[len(spans) // 2 :]
    older, newer = median(end[: len(end) // 2]), median(end[len(end) // 2 :])
    return abs(older - newer) <= STEADY * newer


def now() -> float:
    """Seconds of a clock that never jumps; its zero means nothing."""
    return time.perf_counter_ns() / 1e9


def stamp() -> str:
    """The time of day, as a label: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
