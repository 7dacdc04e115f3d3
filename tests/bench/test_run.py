"""Cases in their workers: alone or two in turns, and whatever a subject does, it ends in a record that says so."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metablocks.bench import hand
from metablocks.bench import run as module
from metablocks.bench.record import Record, dumps, from_data, to_data
from metablocks.bench.run import measure, run
from metablocks.bench.trial import Trial
from metablocks.core.errors import InputError, MissingError

from .conftest import TINY, case, gone, of_file, sent


@pytest.fixture(scope="module")
def alone() -> tuple[Record, list[str]]:
    phases: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        jumps = iter(range(10**9, 0, -(10**5)))
        patch.setattr(time, "time", lambda: float(next(jumps)))
        record = run([sent(modules=("quick_peaks", "jumping_clock"))], phases.append, "run 1")[0]
    return record, phases


def test_a_case_that_goes_well_carries_figures_costs_and_conditions(alone: tuple[Record, list[str]]) -> None:
    record, phases = alone
    assert record.status == "ok", record.reason
    data = to_data(record)
    assert data["params"] > 0
    assert data["flops"] == 2 * data["macs"]
    assert data["activations"] > 0
    assert data["images_per_s_q1"] <= data["images_per_s"] <= data["images_per_s_q3"]
    assert data["latency_p50_s"] <= data["latency_p90_s"] <= data["latency_p99_s"]
    assert data["image"] == [16, 16]
    assert {"torch", "python", "threads", "device_name"} <= set(data["environment"])
    assert data["peaks"]["peak_flops_per_s_float32"] == 1e15
    assert data["parameters_bytes"] >= 4 * data["params"]
    assert data["predicted_peak_memory_bytes"] > 0
    assert "compile_cold_s" not in data
    assert phases[:2] == ["importing torch (1 of 1)", "building (1 of 1)"]
    assert "timing batches (1 of 1)" in phases
    assert from_data(json.loads(dumps(record))) == record


def test_a_time_of_day_that_jumps_here_and_in_the_worker_changes_no_duration(alone: tuple[Record, list[str]]) -> None:
    (process,) = alone[0].processes
    assert len(process.rounds_s) >= 7
    assert all(0 < spent < 10 for spent in (*process.rounds_s, *process.latency_rounds_s))
    assert 0 < process.build_s < 60
    assert sum(process.rounds_s) <= process.wall_s < 60


def test_a_case_that_is_alone_with_one_process_has_no_pair_and_no_interval(alone: tuple[Record, list[str]]) -> None:
    record, _ = alone
    assert (record.pair, record.role, record.run) == (None, None, "run 1")
    assert record.figures is not None
    assert record.figures.images_per_s_low is None


@pytest.mark.usefixtures("workers_are_canned")
def test_two_cases_are_measured_in_turns_by_as_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[str, str]] = []
    turn = Trial.turn

    def seen(trial: Trial, what: str, *rest: int) -> float:
        order.append((what, trial.case.compile))
        return turn(trial, what, *rest)

    monkeypatch.setattr(Trial, "turn", seen)
    base, other = run([sent(processes=3), sent(processes=3, compile="block")], run_id="run 2")
    assert (base.role, other.role, base.run) == ("base", "other", "run 2")
    assert base.pair == other.pair != None  # noqa: E711
    assert len(base.processes) == len(other.processes) == 3
    for one, two in zip(base.processes, other.processes, strict=True):
        assert len(one.rounds_s) == len(two.rounds_s) >= 7
        assert len(one.latency_rounds_s) == len(two.latency_rounds_s) >= 7
    taken = [how for what, how in order if what == "batches"]
    fours = [tuple(taken[place : place + 4]) for place in range(0, len(taken), 4)]
    assert set(fours) == {("none", "block", "block", "none"), ("block", "none", "none", "block")}
    assert base.figures is not None
    low, high = base.figures.images_per_s_low, base.figures.images_per_s_high
    assert low is not None
    assert high is not None
    assert low <= base.figures.images_per_s <= high


@pytest.mark.usefixtures("workers_are_canned")
def test_the_temporary_folders_are_gone_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert [record.status for record in run([sent(), sent(compile="block")])] == ["ok", "ok"]
    monkeypatch.setattr(module, "_together", lambda *rest: 1 / 0)  # noqa: ARG005
    with pytest.raises(ZeroDivisionError):
        run([sent()])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "failure", "words"),
    [
        ("raise", "error", ["ValueError: this subject \\x1b[31mraises", "faulty.py:"]),
        ("kill", "killed", ["killed by SIGKILL while calling for the first time (out of memory?)", "last words"]),
        ("exit", "error", ["ended the process"]),
        ("leave", "crash", ["exit code 0 while calling for the first time"]),
        ("nan", "nan_output", ["not finite"]),
        ("allocate", "out_of_memory", ["out of memory at batch 2"]),
    ],
)
def test_a_subject_that_fails_is_a_record_with_a_reason(fault: str, failure: str, words: list[str]) -> None:
    (record,) = run([sent(fault)])
    assert (record.status, record.failure, record.figures) == ("failed", failure, None)
    for word in words:
        assert word in str(record.reason)
    assert from_data(json.loads(dumps(record))) == record


@pytest.mark.parametrize(
    ("function", "failure", "words"),
    [
        ("garbage_everywhere", "garbage", "the worker's answer is not one; it was calling for the first time"),
        ("no_descriptors", "crash", "while calling for the first time"),
        ("interrupts_itself", "killed", "SIGINT while calling for the first time"),
        ("base_exception", "crash", "GeneratorExit: not even an Exception"),
    ],
)
def test_a_subject_that_spoils_its_worker_is_a_record_with_a_reason(function: str, failure: str, words: str) -> None:
    (record,) = run([of_file(function, limit_s=60.0)])
    assert (record.status, record.failure) == ("failed", failure), record.reason
    assert words in str(record.reason)


@pytest.mark.parametrize("function", ["without_end", "bytes_without_end"])
def test_a_subject_that_allocates_without_end_is_stopped_by_its_limit(function: str) -> None:
    (record,) = run([of_file(function, memory_limit_bytes=1 << 28)])
    assert (record.status, record.failure) == ("failed", "out_of_memory"), record.reason


def test_a_subject_that_makes_a_mess_cannot_spoil_its_record_nor_leave_anything_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PID_FILE", str(tmp_path / "pids"))
    here = Path.cwd()
    (record,) = run([of_file("a_mess")])
    assert record.status == "ok", record.reason
    children = (tmp_path / "pids").read_text().split()
    assert len(children) == 2
    assert all(gone(int(child)) for child in children)
    assert Path.cwd() == here


def test_a_subject_that_hangs_is_stopped_and_its_partner_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, canned: str
) -> None:
    boots = iter([hand.BOOT, canned])
    whole = hand.Hand.__init__

    def each_its_own(one: hand.Hand, *rest: Any) -> None:
        monkeypatch.setattr(hand, "BOOT", next(boots))
        whole(one, *rest)

    monkeypatch.setattr(hand.Hand, "__init__", each_its_own)
    monkeypatch.setenv("PID_FILE", str(tmp_path / "pids"))
    base, other = run([of_file("hangs_with_a_child", limit_s=12.0), sent()])
    assert (base.failure, other.status) == ("timeout", "ok"), base.reason
    assert "stopped after 12 s while calling for the first time; raise --limit" in str(base.reason)
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_compiled_outputs_that_differ_from_eager_ones_carry_no_time() -> None:
    (record,) = run([of_file("another_one_when_compiled", compile="model")])
    assert (record.failure, record.figures) == ("mismatch", None), record.reason
    assert "where 0.001 is allowed in float32" in str(record.reason)


def test_a_missing_compiler_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    (record,) = run([sent(compile="block")])
    assert record.failure == "missing", record.reason
    assert "--compile none" in str(record.reason)


def test_a_spec_that_does_not_read_in_the_worker_is_a_failed_record() -> None:
    broken = case()
    (record,) = run([replace(broken, subject=replace(broken.subject, text=json.dumps({"net": "nothing"})))])
    assert record.failure == "error"
    assert "nothing" in str(record.reason)


def test_measure_refuses_conditions_that_do_not_exist() -> None:
    with pytest.raises(InputError, match="no way to compile called `fast`"):
        measure(TINY, compile="fast")
    with pytest.raises(InputError, match="a batch of -1"):
        measure(TINY, batch=-1)
    with pytest.raises(MissingError, match="cuda:99"):
        measure(TINY, device="cuda:99")
