"""Workers: whatever a subject does, it ends in a record that says what happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from metablocks.bench.record import to_data
from metablocks.bench.run import measure, run
from metablocks.core.errors import InputError, MissingError

from .conftest import MIXERS, TINY, case


def test_a_case_that_goes_well_carries_figures_costs_and_conditions() -> None:
    phases: list[str] = []
    record = run(case(), phases.append)
    assert record.reason is None
    data = to_data(record)
    assert data["status"] == "ok"
    assert data["params"] > 0
    assert data["flops"] == 2 * data["macs"]
    assert data["images_per_s_q1"] <= data["images_per_s"] <= data["images_per_s_q3"]
    assert data["latency_p50_s"] <= data["latency_p90_s"]
    assert len(data["rounds_s"]) >= 7
    assert "compile_s" not in data
    assert {"torch", "python", "threads", "device_name"} <= set(data["environment"])
    assert "timing batches of 2" in phases


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
    record = run(case(fault))
    assert (record.status, record.failure, record.figures) == ("failed", failure, None)
    for word in words:
        assert word in str(record.reason)
    assert record.environment["threads"] >= 1


def test_a_subject_that_hangs_is_stopped_after_its_time() -> None:
    record = run(case("hang", limit_s=3.0))
    assert record.failure == "timeout"
    assert "stopped after 3 s" in str(record.reason)


def test_a_subject_that_prints_cannot_spoil_its_record() -> None:
    record = run(case("print"))
    assert record.reason is None
    assert record.status == "ok"


def test_compiled_outputs_that_differ_from_eager_ones_carry_no_time() -> None:
    record = run(case("mismatch", compile="block"))
    assert record.failure == "mismatch"
    assert record.figures is None
    assert "where 0.001 is allowed in float32" in str(record.reason)


def test_a_missing_compiler_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    record = run(case(compile="block"))
    assert record.failure == "missing"
    assert "--compile none" in str(record.reason)


def test_a_spec_that_does_not_read_in_the_worker_is_a_failed_record() -> None:
    broken = case()
    record = run(replace(broken, subject=replace(broken.subject, text=json.dumps({"net": "nothing"}))))
    assert record.failure == "error"
    assert "nothing" in str(record.reason)


def test_measure_refuses_conditions_that_do_not_exist() -> None:
    with pytest.raises(InputError, match="no way to compile called `fast`"):
        measure(TINY, compile="fast")
    with pytest.raises(InputError, match="a batch of -1"):
        measure(TINY, batch=-1)
    with pytest.raises(MissingError, match="cuda:99"):
        measure(TINY, device="cuda:99")


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_worker_never_outlives_its_parent(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    pid_file, out = tmp_path / "pid", tmp_path / "results.jsonl"
    edit = ["--set", "block.mixer={faulty: {fault: hang}}", "--mixers", str(MIXERS)]
    command = [sys.executable, "-m", "metablocks", "bench", str(TINY), *edit, "--out", str(out)]
    environment = {**os.environ, "PID_FILE": str(pid_file)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as parent:
        worker = _pid(pid_file, parent)
        parent.send_signal(sent)
        _, told = parent.communicate(timeout=60)
    assert parent.returncode == code, told
    assert "Traceback" not in told
    while _lives(worker):  # the suite's own limit ends this where it never comes true
        time.sleep(0.05)


def _pid(path: Path, parent: subprocess.Popen[str]) -> int:
    """The worker's process, as soon as it hangs."""
    while parent.poll() is None:
        with suppress(OSError, ValueError):
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError(parent.communicate())


def _lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
