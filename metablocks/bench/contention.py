"""How much of the processors others took while something was timed: two busy threads on one core are slow.

Others are programs beside us, the host of a virtual machine (steal), and the quota of a control group.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from metablocks.bench import clock

BUSY = (1, 2, 3, 6, 7, 8)  # of a cpu line in /proc/stat: user, nice, system, irq, softirq, steal
STEAL = 8
STAT = Path("/proc/stat")
MEMBERSHIP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Usage:
    """Seconds up to a moment: of the clock, of our processors being busy with anyone, and of this process running."""

    clock_s: float
    busy_s: float
    own_s: float
    cpus: int
    steal_s: float | None = None
    """That the host ran somebody else while our processors had work."""
    held_back_s: float | None = None
    """That the quota of our control group kept work waiting, added up over processors."""


Span = tuple[Usage | None, Usage | None]


def usage() -> Usage | None:
    """The usage up to now; None where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in STAT.read_text().splitlines() if line.startswith("cpu")]
        lines = [line for line in lines if line[0] in ours]
        ticks = os.sysconf("SC_CLK_TCK")
        busy = sum(int(line[place]) for line in lines for place in BUSY) / ticks
        steal = sum(int(line[STEAL]) for line in lines) / ticks
        return Usage(clock.now(), busy, clock.processor_s(), len(ours), steal, _held_back_s())
    return None


def foreign_share(start: Usage | None, end: Usage | None) -> float | None:
    """The share of our processors that others took between two moments, 0 to 1."""
    return foreign_share_over([(start, end)])


def foreign_share_over(spans: Sequence[Span]) -> float | None:
    """The same over several spans together. The system counts in ticks of 10 ms, which are coarse for a short span."""
    known = _known(spans)
    # added up before it is cut off at 0, or the coarse ticks of every span would add to the share
    taken = sum((end.busy_s - start.busy_s) - (end.own_s - start.own_s) for start, end in known)
    return _share(taken, known)


def stolen_share_over(spans: Sequence[Span]) -> float | None:
    """The share of our processors that the host of this virtual machine took, 0 to 1; a part of the foreign share."""
    known = [(start, end) for start, end in _known(spans) if start.steal_s is not None]
    return _share(sum((end.steal_s or 0) - (start.steal_s or 0) for start, end in known), known)


def held_back_s_over(spans: Sequence[Span]) -> float | None:
    """Seconds that the quota of our control group kept work waiting; None where the system does not tell."""
    known = [(start, end) for start, end in _known(spans) if start.held_back_s is not None]
    return sum((end.held_back_s or 0) - (start.held_back_s or 0) for start, end in known) if known else None


def quota() -> float | None:
    """The processors that our control group may keep busy, such as 1.5; None where there is no limit."""
    limits = []
    for folder in _groups():
        with contextlib.suppress(OSError, ValueError):
            limit, period = (folder / "cpu.max").read_text().split()
            limits.append(int(limit) / int(period))
        with contextlib.suppress(OSError, ValueError):
            limit, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            limits.append(int(limit) / int(period))
    return min((limit for limit in limits if limit > 0), default=None)


def _known(spans: Sequence[Span]) -> list[tuple[Usage, Usage]]:
    return [(start, end) for start, end in spans if start is not None and end is not None]


def _share(taken: float, spans: Sequence[tuple[Usage, Usage]]) -> float | None:
    there = sum((end.clock_s - start.clock_s) * end.cpus for start, end in spans)
    return min(1.0, max(0.0, taken / max(1e-9, there))) if spans else None


def _held_back_s() -> float | None:
    """The largest of our group and those above it: each counts what its own quota held back."""
    found = []
    for folder in _groups():
        with contextlib.suppress(OSError, ValueError):
            counts = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
            if "throttled_usec" in counts:
                found.append(int(counts["throttled_usec"]) / 1e6)
            elif "throttled_time" in counts:  # version 1 of control groups
                found.append(int(counts["throttled_time"]) / 1e9)
    return max(found, default=None)


def _groups() -> Iterator[Path]:
    """The folders of our control group and of those above it, for either version; a container sees its own as root."""
    with contextlib.suppress(OSError, ValueError):
        for line in MEMBERSHIP.read_text().splitlines():
            _, controllers, inside = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            root = GROUPS / "cpu" if controllers else GROUPS
            folder = root / inside.lstrip("/")
            yield folder
            while folder != root and root in folder.parents:
                folder = folder.parent
                yield folder
