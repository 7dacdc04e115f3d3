"""A case in its worker, command by command: prepare, warm up, turns of rounds, finish. The parent sets the pace.

Every command answers with plain data. What goes wrong is an exception, and the worker tells it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from metablocks.bench import clock, contention, environment, memory, models, search, selfcheck, work
from metablocks.bench.case import Case
from metablocks.bench.failures import CaseFailedError, compiling
from metablocks.bench.sensors import Sensors, summarised, warnings
from metablocks.compiler import from_cache
from metablocks.core import heap
from metablocks.costs import CONVENTION
from metablocks.kernels.trial import choices

Tell = Callable[[str], None]
Data = dict[str, Any]


class Session:
    """One case in this process. `over` once nothing more can be asked."""

    def __init__(self, case: Case, tell: Tell) -> None:
        self.case, self.tell, self.over = case, tell, False
        self.timer = clock.Clock(case.device)
        self.sensors = Sensors(case.device, os.getppid())
        self.readings: list[Data] = []
        self.usages: list[contention.Span] = []
        if case.memory_limit_bytes:
            search.limit_memory(case.memory_limit_bytes, case.device)
        self.before = memory.resident()

    def do(self, command: str, **said: Any) -> Data:
        """What a command comes to. The commands are the public methods below."""
        commands: dict[str, Callable[..., Data]] = {
            "look": self.look,
            "prepare": self.prepare,
            "warm_up": self.warm_up,
            "turn": self.turn,
            "parts": self.parts,
            "finish": self.finish,
        }
        return commands[command](**said)

    def look(self) -> Data:
        """Where this worker runs."""
        return {"environment": environment.environment(self.case.device)}

    def prepare(self) -> Data:
        """Builds, calls, compiles, and holds the outputs against eager ones, before anything is timed."""
        before = environment.environment(self.case.device)
        found = before | environment.versions((self.case.subject.kind,))
        if verdict := selfcheck.last_told(found, self.case.device):
            found["self_check"] = verdict
        told = list(environment.warnings(found))
        built: list[models.Subject] = []
        self.tell("building")
        build_s = self.timer.span(lambda: built.append(models.load(self.case)))
        self.subject = built[0]
        self.work = {"batches": work.work(self.case, self.subject.model, self.subject.shapes, self.case.batch)}
        first = self._first_call()
        self.worker_peak = memory.resident("VmHWM")
        told += environment.changed(before, environment.environment(self.case.device))
        if heap.keeps():
            found["freed_memory"] = "kept"
        return {
            "environment": found,
            "environment_warnings": told,
            "image": self.subject.image,
            "costs": self._costs(),
            "build_s": build_s,
            **first,
        }

    def warm_up(self, what: str, limit_s: float) -> Data:
        """Calls until the time of a call is steady."""
        first = {}
        if what == "singles":
            self.tell("calling with one image")
            self.work[what] = work.work(self.case, self.subject.model, self.subject.shapes, 1)
            with compiling():
                first = {"first_call_s": self.timer.span(self.work[what].call)}
        self.tell(f"warming up {what}")
        first["overhead_s"] = clock.overhead_s(self.case.device)
        self.asleep = clock.suspended_s()
        return asdict(self.timer.warm_up(self.work[what].call, limit_s)) | first

    def turn(self, what: str, calls: int, rounds: int = 1, untimed: int = 0) -> Data:
        """Seconds of each of `rounds` rounds of `calls` calls, after calls that are not timed."""
        self.readings.append(self.sensors.read())
        before = contention.usage()
        spans = self.timer.turn(self.work[what].call, rounds, calls, untimed)
        self.usages.append((before, contention.usage()))
        return {"rounds_s": spans}

    def parts(self, rounds: int) -> Data:
        """Seconds of forward, backward and optimiser, step by step."""
        self.tell("timing the parts of a step")
        spans: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, part in self.work["batches"].parts():
                spans.setdefault(name, []).append(self.timer.span(part))
        return {"parts_s": spans}

    def finish(self, per_block: bool = False, last: bool = True) -> Data:
        """Uses the outputs and ends the session. Memory is the same in every process: the last one measures it."""
        self.over = True
        self.readings.append(self.sensors.read())
        self.tell("checking the outputs again")
        self._check_again()
        grown = self.worker_peak - self.before if self.worker_peak and self.before else None
        told: Data = {
            "worker_peak_memory_bytes": grown,
            "sensors": summarised(self.readings),
            "sensor_warnings": warnings(self.readings),
            "slept_s": clock.slept_s(self.asleep),
            "held_back_s": contention.held_back_s_over(self.usages),
            "foreign_cpu_share": contention.foreign_share_over(self.usages),
            "tried": choices(),
            "peaks": self._peaks(),
        }
        if last:
            told |= self._memory()
        if per_block:
            told |= self._parts(told["peaks"])
        return told

    def _first_call(self) -> Data:
        """The first call; where something is compiled, beside an eager one on the same inputs."""
        job = self.work["batches"]
        told: Data = {}
        self.tell("calling for the first time")
        if self.case.compile == "none":
            models.compile_subject(self.case, self.subject)
            told["first_call_s"] = self.timer.span(job.call)
            self.reference = self._run_again()
        else:
            self.reference = self._run_again()
            self.tell("compiling")
            models.compile_subject(self.case, self.subject)
            outputs: list[Any] = []
            with compiling():
                first_s = self.timer.span(lambda: outputs.append(job.run(job.inputs[0])))
                self._hold(outputs[0])
                told["first_call_s"] = first_s + (self.timer.span(job.call) if job.optimiser else 0.0)
            told["compiled"] = compiler() | self._difference(outputs[0])
        return told

    def _run_again(self) -> Any:
        """The eager output of the first inputs, which must be finite; None where it is another at every run."""
        job = self.work["batches"]
        output = job.run(job.inputs[0])
        if not work.finite(output):
            raise CaseFailedError("nan_output", "the output of seeded normal inputs is not finite")
        repeatable = job.optimiser is None or work.compared(output, job.run(job.inputs[0]), "float64").largest == 0
        return output if repeatable else None

    def _difference(self, output: Any) -> Data:
        if self.reference is None:
            return {}
        seen = work.compared(self.reference, output, self.case.dtype)
        return {"eager_difference": seen.largest, "eager_difference_limit": seen.limit}

    def _hold(self, output: Any) -> None:
        """Raises where an output is further from the eager one than the dtype explains."""
        if self.reference is None:
            return
        seen = work.compared(self.reference, output, self.case.dtype)
        if not seen.allowed:
            wrong = f"compiled and eager outputs differ by {seen.largest:.2g} of the largest value"
            raise CaseFailedError("mismatch", f"{wrong}, where {seen.limit:g} is allowed in {self.case.dtype}")

    def _check_again(self) -> None:
        """After the timing the network still gives what it gave before: what was timed was the network."""
        job = self.work["batches"]
        output = job.run(job.inputs[0])
        if not work.finite(output):
            raise CaseFailedError("nan_output", "the output was not finite any more after the timing")
        if job.optimiser is None:
            self._hold(output)

    def _costs(self) -> Data:
        self.tell("counting")
        try:
            cost = models.costs(self.subject)
        except Exception as error:  # a foreign network may do on the meta device what cannot be done there
            return {"warning": f"MACs are unknown: it does not run on the meta device ({type(error).__name__})"}
        return asdict(cost) | {"flops": cost.flops, "convention": CONVENTION}

    def _memory(self) -> Data:
        """Measured, and where the network is an eager one of ours predicted too."""
        self.tell("measuring memory")
        told: Data = {"memory": asdict(memory.measured(self.work["batches"], self.case.device))}
        if self.case.compile == "none" and self.subject.plan:
            told["predicted_bytes"] = self._predicted()
        return told

    def _predicted(self) -> int | None:
        from metablocks.bench.predict import predicted

        self.tell("predicting memory")
        case, plan = self.case, self.subject.plan
        assert plan is not None
        kind = "cuda" if case.device.startswith("cuda") else "cpu"
        return predicted(plan, case.mode, case.batch, case.dtype, kind, case.checkpoint is True).peak_bytes

    def _peaks(self) -> dict[str, float]:
        """Here and now: what the same device, as warm as it is, can do at the most."""
        from metablocks.bench.peaks import peaks

        self.tell("measuring the device's peaks")
        return peaks(self.case.device, (self.case.dtype,))

    def _parts(self, peaks: dict[str, float]) -> Data:
        from metablocks.bench import per_block

        self.tell("timing block by block")
        rows = per_block.per_block(self.case, self.subject, self.work["batches"], peaks)
        return {"parts": rows, "parts_warnings": per_block.warnings(rows)}


def compiler() -> Data:
    """Graphs, breaks and recompiles up to now, and whether the graphs came from the cache on disk."""
    from torch._dynamo.utils import counters, get_compilation_metrics

    return {
        "compiled_graphs": counters["stats"]["unique_graphs"],
        "graph_breaks": sum(counters["graph_break"].values()),
        "recompiles": sum(1 for made in get_compilation_metrics() if getattr(made, "recompile_reason", None)),
        "compile_cache": from_cache(),
    }
