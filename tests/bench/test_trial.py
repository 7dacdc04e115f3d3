"""A worker that is killed, whatever it is at: its row says so, and the row of its partner is there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metablocks.bench import hand, models, peaks, trial
from metablocks.bench.case import Case
from metablocks.bench.hand import Hand
from metablocks.bench.record import Record
from metablocks.bench.run import run
from metablocks.bench.session import Session
from metablocks.bench.trial import Trial

from .conftest import case, sent

INFER = ["importing torch", "building", "calling for the first time", "counting", "warming up batches",
         "timing batches", "calling with one image", "warming up singles", "timing singles",
         "checking the outputs again", "measuring memory", "measuring the device's peaks",
         "predicting memory"]  # fmt: skip
OTHERS = [("compiling", {"compile": "block"}), ("timing the parts of a step", {"mode": "train"}),
          ("timing block by block", {})]  # fmt: skip

Kill = Callable[..., list[int]]


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch, canned: str) -> Kill:
    """From now on the worker of this case is killed as soon as it tells this phase. The pids of all workers.

    The worker of any other case is a canned one, unless the other one is to be `real`.
    """
    pids: list[int] = []

    def armed(victim: Case, at: str, real: bool = False) -> list[int]:
        boot = hand.BOOT
        monkeypatch.setenv("PAUSE_AT", at)

        class Shot(Hand):
            def __init__(self, case: Case, cache: Path, watch: Callable[[str], None]) -> None:
                def told(phase: str) -> None:
                    watch(phase)
                    if case == victim and phase == at:
                        os.kill(self.process.pid, signal.SIGKILL)

                hand.BOOT = boot if real or case == victim else canned
                super().__init__(case, cache, told)
                pids.append(self.process.pid)

        monkeypatch.setattr(hand, "BOOT", boot)  # which is put back at the end
        monkeypatch.setattr(trial, "Hand", Shot)
        return pids

    return armed


def victim_of(**conditions: Any) -> Case:
    return sent(modules=("quick_peaks", "pausing"), **conditions)


def partner_of(victim: Case) -> Case:
    """The same network under another name, so that it is another case."""
    return replace(victim, subject=replace(victim.subject, name="partner"), compile="none", modules=("quick_peaks",))


def killed(record: Record, phase: str) -> bool:
    reason = f"the worker was killed by SIGKILL while {phase} (out of memory?)"
    return (record.status, record.failure, record.figures) == ("failed", "killed", None) and record.reason == reason


@pytest.mark.parametrize("phase", INFER)
def test_a_worker_killed_in_any_phase_fails_its_own_row_alone(kill: Kill, phase: str) -> None:
    victim = victim_of()
    pids = kill(victim, phase)
    base, other = run([victim, partner_of(victim)])
    assert killed(base, phase), base.reason
    assert other.status == "ok", other.reason
    assert base.pair == other.pair
    assert len(set(pids)) == 2


@pytest.mark.parametrize(("phase", "conditions"), OTHERS, ids=[phase for phase, _ in OTHERS])
def test_so_it_does_in_the_phases_that_only_some_cases_have(
    kill: Kill, phase: str, conditions: dict[str, object]
) -> None:
    victim = victim_of(**conditions)
    kill(victim, phase)
    base, other = run([partner_of(victim), victim], per_block=not conditions)
    assert killed(other, phase), other.reason
    assert base.status == "ok", base.reason


def test_a_partner_that_is_at_work_itself_goes_on(kill: Kill) -> None:
    victim = victim_of(processes=2)
    pids = kill(victim, "timing batches", real=True)
    base, other = run([victim, partner_of(victim)])
    assert killed(base, "timing batches"), base.reason
    assert (other.status, len(other.processes)) == ("ok", 2), other.reason
    assert len(pids) == 3  # what has failed is not started again


def test_no_phase_is_forgotten_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "peaks", lambda device, dtypes: {})  # noqa: ARG005
    monkeypatch.setattr(models, "compile_subject", lambda case, found: None)  # noqa: ARG005
    told: list[str] = []
    for conditions in ({}, {"mode": "train", "compile": "block"}):
        session = Session(case(**conditions), told.append)
        session.prepare()
        for what in ("batches", "singles"):
            session.warm_up(what, 0.01)
            session.turn(what, 1)
        session.parts(1)
        session.finish(per_block=True)
    silent = {"importing torch", "timing batches", "timing singles"}  # told by the worker's start and by the parent
    assert set(told) == {*INFER, *(phase for phase, _ in OTHERS)} - silent


def test_what_earlier_processes_measured_is_kept_where_a_later_one_is_killed(
    kill: Kill, monkeypatch: pytest.MonkeyPatch, canned: str
) -> None:
    victim = victim_of(processes=2)
    kill(victim, "building")
    starts: list[Case] = []
    shot = trial.Hand  # type: ignore[attr-defined]

    def started(case: Case, *rest: Any) -> Hand:
        starts.append(case)
        if starts.count(victim) == 1:
            monkeypatch.setattr(hand, "BOOT", canned)
            return Hand(case, *rest)
        return shot(case, *rest)

    monkeypatch.setattr(trial, "Hand", started)
    base, other = run([victim, partner_of(victim)])
    assert killed(base, "building"), base.reason
    assert len(base.processes) == 1
    assert base.environment["threads"] >= 1
    assert (other.status, len(other.processes)) == ("ok", 2)


def test_a_trial_that_has_no_worker_asks_nothing() -> None:
    one = Trial(case())
    assert not one.alive
    assert one.ask("prepare") == {}
    assert one.turn("batches", 1, 1, 0) == 0
