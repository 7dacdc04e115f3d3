"""Runs cases in fresh workers, one alone or two in turns. Whatever a worker does, it ends in a record.

Two workers hold the device at a time, and only one of them works: rounds are taken in the order A B B A or B A A B,
drawn anew each time, so that drift of the machine hits both alike.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from metablocks.bench import clock
from metablocks.bench.case import Case
from metablocks.bench.hand import Watch
from metablocks.bench.outcome import outcome
from metablocks.bench.record import Record
from metablocks.bench.subject import subject
from metablocks.bench.trial import Trial

if TYPE_CHECKING:
    from metablocks.spec import Spec

TURNS = 10  # that single images take at the least: more than one call in each, for the first one pays for the change
REWARMED = 10  # a round of so many calls can afford one before it that is not timed: the other has had the caches


def measure(  # noqa: PLR0913  (a promise to users)
    source: str | Path | Spec,
    mode: str = "infer",
    batch: int = 8,
    device: str = "cpu",
    dtype: str = "float32",
    compile: str = "none",
    processes: int = 3,
) -> Record:
    """The record of one case, measured in fresh workers. For edits, pass `read(source, set=...)` as the source.

    A case that fails is a record too: see its `status`, `failure` and `reason`. Raises `SpecError` for a spec that
    does not read, `InputError` for a condition that does not exist, `MissingError` where the device is not there.
    """
    from metablocks.bench.cells import cases
    from metablocks.bench.conditions import Conditions

    conditions = Conditions((mode,), (batch,), device=device, dtypes=(dtype,), compiles=(compile,), processes=processes)
    return run(cases([subject(source)], conditions))[0]


def run(
    cases: Sequence[Case],
    watch: Watch = lambda phase: None,  # noqa: ARG005
    run_id: str | None = None,
    per_block: bool = False,
) -> list[Record]:
    """The records of one case, or of two that are measured in turns, the base first. `watch` hears what is going on."""
    with ExitStack() as stack:
        trials = [stack.enter_context(Trial(case, _named(case, cases, watch))) for case in cases]
        for index in range(max(case.processes for case in cases)):
            going = [trial for trial in trials if trial.failure is None and index < trial.case.processes]
            if not going:
                break
            _together(going if index % 2 == 0 else going[::-1], per_block and index == 0)
    records = [outcome(trial) for trial in trials]
    pair = uuid.uuid4().hex[:12] if len(records) == 2 else None
    roles = ("base", "other") if pair else (None,)
    return [replace(record, run=run_id, pair=pair, role=role) for record, role in zip(records, roles, strict=True)]


def _together(trials: Sequence[Trial], per_block: bool) -> None:
    """One process of each trial: prepared one after the other, timed in turns."""
    with ExitStack() as stack:
        for trial in trials:
            trial.start(stack)
        start = clock.now()
        calls = _turns(trials, "batches")
        wall_s = clock.now() - start
        if trials[0].case.mode == "infer":
            for trial in trials:
                trial.prepare("singles")
            _turns(trials, "singles")
        for trial in trials:
            trial.finish(calls.get(id(trial), 0), wall_s, per_block)


def _turns(trials: Sequence[Trial], what: str) -> dict[int, int]:
    """Rounds in turns, until each trial has been timed for its seconds; how many calls a round of each has."""
    pace = {id(trial): _pace(trial, what) for trial in trials if trial.alive}
    rounds = min((rounds for _, rounds in pace.values()), default=1)
    spent = dict.fromkeys(pace, 0.0)
    taken = 0
    while any(trial.alive and _wants(trial, spent[id(trial)], taken) for trial in trials):
        for trial in _order(trials):
            if trial.alive:
                calls = pace[id(trial)][0]
                untimed = 1 if calls * rounds >= REWARMED else 0
                spent[id(trial)] += trial.turn(what, calls, rounds, untimed)
        taken += 2 * rounds
    return {key: calls for key, (calls, _) in pace.items()}


def _pace(trial: Trial, what: str) -> tuple[int, int]:
    """How many calls are a round, and how many rounds a turn: calls of a single image are rounds of their own."""
    seconds, call_s = trial.case.seconds, trial.warm[what]["call_s"]
    if what == "singles":
        return 1, max(1, round(seconds / TURNS / call_s))
    return clock.calls_per_round(call_s, seconds, trial.warm[what]["overhead_s"]), 1


def _wants(trial: Trial, spent: float, taken: int) -> bool:
    return taken < clock.LEAST_ROUNDS or (spent < trial.case.seconds and taken < clock.MOST_ROUNDS)


def _order(trials: Sequence[Trial]) -> list[Trial]:
    """A B B A or B A A B."""
    there = list(trials)
    random.shuffle(there)
    return there + there[::-1]


def _named(case: Case, cases: Sequence[Case], watch: Watch) -> Watch:
    """What a worker does, with the case that it does it for where there are two."""
    return watch if len(cases) == 1 else lambda phase: watch(f"{case.label}: {phase}")
