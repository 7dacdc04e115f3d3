"""One case over its processes: what its workers told, and how it failed if it did. The pace is set elsewhere."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from metablocks.bench import clock
from metablocks.bench.case import Case
from metablocks.bench.hand import Hand, Watch, WorkerFailedError, undisturbed
from metablocks.bench.record import Process

Data = dict[str, Any]


class Trial:
    """A case under measurement. Use as a context: its compiler's cache is there for all its processes, and then gone.

    So the first process compiles from a cold cache, and the others from a warm one.
    """

    def __init__(self, case: Case, watch: Watch = lambda phase: None) -> None:  # noqa: ARG005
        self.case, self.watch = case, watch
        self.time = clock.stamp()
        self.failure: WorkerFailedError | None = None
        self.facts: list[Data] = []
        """What each process told when it was prepared and when it finished."""
        self.processes: list[Process] = []
        self.rounds: dict[str, list[float]] = {}
        self.warm: dict[str, Data] = {}
        self._hand: Hand | None = None
        self._fact: Data = {}

    def __enter__(self) -> Trial:
        self._cache = Path(tempfile.mkdtemp(prefix="metablocks-"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with undisturbed():
            shutil.rmtree(self._cache, ignore_errors=True)

    @property
    def alive(self) -> bool:
        """Whether there is a worker that can be asked."""
        return self._hand is not None and self.failure is None

    def start(self, stack: ExitStack) -> None:
        """A fresh worker, built, compiled and warm. It ends with the stack."""
        self.rounds, self.warm, self._fact = {}, {}, {}
        number = f"{len(self.processes) + 1} of {self.case.processes}"
        self._hand = stack.enter_context(Hand(self.case, self._cache, lambda phase: self.watch(f"{phase} ({number})")))
        self._fact |= self.ask("prepare")
        self.prepare("batches")

    def prepare(self, what: str) -> None:
        """Warms up what is timed next."""
        self.warm[what] = self.ask("warm_up", what=what, limit_s=self.case.seconds)

    def turn(self, what: str, calls: int, rounds: int, untimed: int) -> float:
        """Times rounds and keeps them; the seconds that they took."""
        if self._hand is not None:
            self._hand.turn_to(f"timing {what}")
        spans = self.ask("turn", what=what, calls=calls, rounds=rounds, untimed=untimed).get("rounds_s", [])
        self.rounds.setdefault(what, []).extend(spans)
        return sum(spans)

    def ask(self, do: str, **said: Any) -> Data:
        """What the worker answers; nothing, and `failure` set, where it fails or has failed."""
        if self._hand is None or self.failure is not None:
            return {}
        try:
            return self._hand.ask(do, **said)
        except WorkerFailedError as error:
            self.failure = error
            return {}

    def finish(self, calls: int, wall_s: float, per_block: bool) -> None:
        """Ends the worker; its rounds become a process of the record."""
        told = self.ask("parts", rounds=len(self.rounds["batches"])) if self.case.mode != "infer" else {}
        told |= self.ask("finish", per_block=per_block, last=len(self.facts) + 1 == self.case.processes)
        self._hand, hand = None, self._hand
        self._fact |= told
        self.facts.append(self._fact)
        if self.failure is None and hand is not None:
            self.processes.append(_process(self._fact, self.warm, self.rounds, calls, wall_s))


def _process(fact: Data, warm: dict[str, Data], rounds: dict[str, list[float]], calls: int, wall_s: float) -> Process:
    batches, singles = warm["batches"], warm.get("singles", {})
    compiled = fact.get("compiled")
    return Process(
        rounds_s=tuple(rounds["batches"]),
        calls_per_round=calls,
        wall_s=wall_s,
        steady=batches["steady"],
        warm_up_calls=batches["calls"],
        warm_up_s=batches["seconds"],
        build_s=fact["build_s"],
        first_call_s=fact["first_call_s"],
        latency_rounds_s=tuple(rounds.get("singles", ())),
        latency_first_call_s=singles.get("first_call_s"),
        parts_s={name: tuple(spans) for name, spans in fact.get("parts_s", {}).items()},
        compile_s=max(0.0, fact["first_call_s"] - batches["call_s"]) if compiled else None,
        compile_cache=compiled["compile_cache"] if compiled else None,
        foreign_cpu_share=fact["foreign_cpu_share"],
        sensors=fact["sensors"],
        worker_peak_memory_bytes=fact["worker_peak_memory_bytes"],
    )
