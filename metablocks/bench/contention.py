"""How much of the processors other programs took while something was timed: two busy threads on one core are slow."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from metablocks.bench import clock

BUSY = (1, 2, 3, 6, 7, 8)  # of a cpu line in /proc/stat: user, nice, system, irq, softirq, steal


@dataclass(frozen=True)
class Usage:
    """Seconds up to a moment: of the clock, of our processors being busy with anyone, and of this process running."""

    clock_s: float
    busy_s: float
    own_s: float
    cpus: int


def usage() -> Usage | None:
    """The usage up to now; None where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
        ticks = sum(int(line[place]) for line in lines if line and line[0] in ours for place in BUSY)
        own = os.times()
        return Usage(clock.now(), ticks / os.sysconf("SC_CLK_TCK"), own.user + own.system, len(ours))
    return None


def foreign_share(start: Usage | None, end: Usage | None) -> float | None:
    """The share of our processors that others took between two moments, 0 to 1."""
    if start is None or end is None:
        return None
    there = max(1e-9, (end.clock_s - start.clock_s) * end.cpus)
    taken = (end.busy_s - start.busy_s) - (end.own_s - start.own_s)
    return min(1.0, max(0.0, taken / there))
