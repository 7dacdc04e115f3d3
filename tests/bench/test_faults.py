"""A bench that is stopped, runs out of disk, shares its file or lacks a library: rows, file and exit code are right."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path

import pytest

from metablocks.bench import store
from metablocks.bench.record import Record
from metablocks.bench.run import run

from .conftest import MIXERS, SUBJECTS, TINY, Done, gone, of_file, sent
from .test_command import OUT, QUICK, records
from .test_models import TIMM, TORCHVISION

Command = Callable[..., Done]

HANGING = ("--set", "block.mixer={faulty: {fault: hang}}", "--mixers", str(MIXERS))


# A worker without torch that hangs, and that nothing but SIGKILL ends.
STUBBORN = """
import os, signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
open(os.environ["PID_FILE"], "w").write(f"{os.getpid()}\\n")
time.sleep(600)
"""

Hanging = Callable[[bool], tuple["subprocess.Popen[str]", int]]


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record) -> Hanging:
    """Starts a bench whose worker, a real one or a stubborn one, hangs beside a file with a record; its process."""
    pids = tmp_path / "pids"
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("PID_FILE", str(pids))
    store.append(tmp_path / OUT, record)

    def started(real: bool) -> tuple[subprocess.Popen[str], int]:
        boot = "" if real else f"from metablocks.bench import hand; hand.BOOT = {STUBBORN!r}\n"
        code = f"{boot}from metablocks.cli import main; main()"
        command = [sys.executable, "-c", code, "bench", str(TINY), *HANGING, "--compile", "none", *QUICK]
        bench = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while bench.poll() is None:
            with suppress(OSError, ValueError):
                return bench, int(pids.read_text())
            time.sleep(0.05)
        raise AssertionError(bench.communicate())

    return started


INT, TERM = signal.SIGINT, signal.SIGTERM
STOPS = [
    ("Ctrl-C", True, (INT,), {130}),
    ("Ctrl-C, ignored", False, (INT,), {130}),
    ("Ctrl-C again and again", False, (INT,) * 10, {130}),
    ("Ctrl-C and kill", False, (INT, TERM), {130, 143}),
    ("kill", False, (TERM,), {143}),
    ("the terminal is closed", False, (signal.SIGHUP,), {129}),
    ("kill -9", True, (signal.SIGKILL,), {-9}),
]


@pytest.mark.parametrize(("real", "signals", "codes"), [row[1:] for row in STOPS], ids=[row[0] for row in STOPS])
def test_a_bench_that_is_stopped_leaves_its_file_and_nothing_else(
    hanging: Hanging, tmp_path: Path, record: Record, real: bool, signals: tuple[signal.Signals, ...], codes: set[int]
) -> None:
    bench, worker = hanging(real)
    with bench:
        for one in signals:
            with suppress(ProcessLookupError):
                bench.send_signal(one)
            time.sleep(0.003)
        out, told = bench.communicate(timeout=60)
    assert bench.returncode in codes, told
    assert "Traceback" not in told
    assert out == ""
    assert gone(worker)
    assert store.read(tmp_path / OUT) == store.Contents((record,), ())
    if signal.SIGKILL not in signals:  # which nobody can clear up after
        assert list((tmp_path / "temporary").iterdir()) == []
    if set(signals) == {signal.SIGINT}:
        assert told.splitlines()[-1] == "stopped; 0 records appended to results.jsonl"


@pytest.mark.usefixtures("workers_are_canned")
def test_ctrl_c_between_two_pairs_keeps_the_rows_of_the_first(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import metablocks.bench.run as module

    whole = module.run
    taken: list[object] = []

    def once(*arguments: object) -> list[Record]:
        if taken:
            raise KeyboardInterrupt
        taken.append(arguments)
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "run", once)
    done = command("bench", str(TINY), *QUICK[2:], "--batch", "1,2", "--compile", "none")
    assert done.code == 130
    assert [one.batch for one in records()] == [1]
    assert "stopped; 1 record appended to results.jsonl" in done.err
    assert "images/s" in done.out


@pytest.mark.usefixtures("workers_are_canned")
def test_a_disk_that_fills_up_ends_the_bench_with_the_earlier_rows_in_the_file(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronise, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 2:
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        synchronise(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    done = command("bench", str(TINY), *QUICK[2:], "--batch", "1,2,3", "--compile", "none")
    assert done.code == 3
    assert "`results.jsonl`: No space left on device" in done.err
    assert [one.batch for one in records()] == [1, 2]
    assert "2 records appended to results.jsonl" in done.out
    monkeypatch.setattr(os, "fsync", synchronise)
    again = command("bench", str(TINY), *QUICK[2:], "--batch", "1,2,3", "--compile", "none", "--resume")
    assert again.code == 0
    assert [one.batch for one in records()] == [1, 2, 3]


def test_a_folder_that_is_read_only_is_told_before_anything_is_measured(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    done = command("bench", str(TINY))
    assert (done.code, done.out) == (3, "")
    assert "cannot write in the folder of `results.jsonl`" in done.err


def test_two_benches_share_a_file_and_tear_no_line(tmp_path: Path, canned: str) -> None:
    code = f"from metablocks.bench import hand; hand.BOOT = {canned!r}\nfrom metablocks.cli import main; main()"
    batches = ",".join(map(str, range(1, 16)))
    asked = ["bench", str(TINY), *QUICK[2:], "--batch", batches, "--dtype", "float32,bfloat16", "--compile", "none"]
    benches = [
        subprocess.Popen([sys.executable, "-c", code, *asked], cwd=tmp_path, stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]  # fmt: skip
    for bench in benches:
        _, told = bench.communicate()
        assert bench.returncode == 0, told
    found = records(tmp_path / OUT)
    assert len(found) == 60
    runs = {one.run for one in found}
    assert len(runs) == 2
    for name in runs:
        assert [one.batch for one in found if one.run == name] == [batch for batch in range(1, 16) for _ in range(2)]


def beside(folder: Path, patch: pytest.MonkeyPatch, name: str, source: str) -> None:
    """A library of someone else for the bench and its workers."""
    (folder / f"{name}.py").write_text(source)
    patch.setenv("PYTHONPATH", os.pathsep.join((str(folder), str(SUBJECTS))))
    patch.syspath_prepend(str(folder))
    patch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize("peer", ["timm", "torchvision"])
def test_a_peer_that_is_not_installed_ends_the_bench_with_what_to_install(
    command: Command, monkeypatch: pytest.MonkeyPatch, peer: str
) -> None:
    monkeypatch.setattr("metablocks.bench.subject.find_spec", lambda _: None)
    done = command("bench", str(TINY), f"{peer}:net")
    assert (done.code, done.out) == (6, "")
    assert f"{peer} is not installed, so `{peer}:net` cannot be measured" in done.err
    assert f"pip install {peer}" in done.err


def test_a_peer_that_does_not_import_is_a_row_beside_the_others(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    beside(tmp_path, monkeypatch, "timm", "raise RuntimeError('operator torchvision::nms does not exist')\n")
    beside(tmp_path, monkeypatch, "torchvision", TORCHVISION)
    done = command("bench", "torchvision:resnet_one", "timm:any", *QUICK, "--compile", "none")
    assert done.code == 4, done.err
    good, missing = records()
    assert (good.status, good.kind, good.image, good.macs) == ("ok", "torchvision", (6, 6), 3 * 6 * 6 * 5)
    assert (missing.status, missing.failure, missing.kind) == ("failed", "missing", "timm")
    assert "timm cannot be imported here: RuntimeError: operator torchvision::nms does not exist" in str(missing.reason)
    assert good.pair == missing.pair


def test_a_bench_of_nothing_but_what_is_missing_ends_with_6(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    beside(tmp_path, monkeypatch, "timm", "import no_such_module\n")
    done = command("bench", "timm:any", *QUICK, "--compile", "none")
    assert done.code == 6, done.err
    assert "timm cannot be imported here: ModuleNotFoundError" in " ".join(done.out.split())


def test_a_peer_and_a_file_as_it_was_are_measured_in_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    beside(tmp_path, monkeypatch, "timm", TIMM)
    file = tmp_path / "mine.py"
    file.write_text("import torch\ndef net(): return torch.nn.Embedding(9, 4), torch.tensor([[1, 2, 8]])\n")
    mine = of_file("net", file)
    file.write_text("raise RuntimeError('edited')\n")
    peer = replace(sent(), subject=replace(mine.subject, kind="timm", name="timm:little_net", text="little_net"))
    records = run([peer, mine])
    assert [(one.status, one.kind) for one in records] == [("ok", "timm"), ("ok", "file")], records
    assert not [one for record in records for one in record.warnings if "the subject set" in one]
    assert (records[0].macs, records[1].image) == (3 * 8 * 12 * 5, None)
    assert json.dumps(records[1].environment)
