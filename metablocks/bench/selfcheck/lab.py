"""What the checks share: the device, the way to run cases in workers, and what has been run."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from metablocks.bench import run as runner
from metablocks.bench import statistics
from metablocks.bench.case import Case
from metablocks.bench.clock import Call, Clock
from metablocks.bench.hand import Watch
from metablocks.bench.record import Record
from metablocks.bench.statistics import Comparison
from metablocks.bench.subject import subject

SUBJECTS = Path(__file__).with_name("subjects.py")
STRETCHES = 3  # of rounds in this process, which stand in for processes: an interval, if a narrow one
ROUNDS = 12  # of a stretch
WARM_S = 0.5

Run = Callable[[Sequence[Case], Watch], list[Record]]


class NotMeasuredError(Exception):
    """What a check needs was not measured: why, and whether the machine lacks something for it."""

    def __init__(self, reason: str, missing: bool = False) -> None:
        super().__init__(reason)
        self.missing = missing


class Lab:
    """One self-check on one device. `records` are all that workers measured for it."""

    def __init__(self, device: str, watch: Watch = lambda phase: None, run: Run = runner.run) -> None:  # noqa: ARG005
        self.device, self.watch, self._run = device, watch, run
        self.cuda = device.startswith("cuda")
        self.records: list[Record] = []
        self.timer = Clock(device)

    def case(self, function: str, **conditions: float | str) -> Case:
        """A quick case of one of our subjects."""
        made = {"batch": 1, "device": self.device, "seconds": 0.4, "processes": 1, "limit_s": 300.0} | conditions
        return Case(subject(f"{SUBJECTS}:{function}"), **made)  # type: ignore[arg-type]

    def run(self, *cases: Case) -> list[Record]:
        """The records of one case, or of two in turns."""
        found = self._run(cases, self.watch)
        self.records += found
        return found

    def measured(self, *cases: Case) -> list[Record]:
        """The same, of cases that have to go well. Raises `NotMeasuredError` for the first that did not."""
        found = self.run(*cases)
        for record in found:
            if record.figures is None:
                raise NotMeasuredError(f"{record.name}: {record.reason}", record.failure == "missing")
        return found

    def products(self) -> Case:
        """The case of products that fill the device."""
        if self.cuda:
            return self.case("large_products", batch=4096, dtype="bfloat16", seconds=1.0)
        return self.case("products", batch=512, seconds=1.0)

    def in_turns(self, first: Call, second: Call) -> Comparison:
        """The speed of the second call over that of the first, in this process."""
        calls = (first, second)
        for call in calls:
            self.timer.warm_up(call, WARM_S)
        spans: list[list[list[float]]] = [[[] for _ in range(STRETCHES)] for _ in calls]
        for stretch in range(STRETCHES):
            for _ in range(ROUNDS):
                for side in random.sample((0, 1), 2):
                    spans[side][stretch] += self.timer.turn(calls[side], rounds=1, calls=1, untimed=1)
        return statistics.paired(spans[0], spans[1])
