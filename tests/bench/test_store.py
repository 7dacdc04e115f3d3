"""The results file: appended to by several, torn by none, read whatever became of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from errno import EIO, ENOSPC
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metablocks.bench import store
from metablocks.bench.record import SCHEMA, Record, bare, dumps, to_data
from metablocks.core.errors import StoreError

from .conftest import case

# Appends records of about 6 kB; prints a line after each, so that the test knows what was promised.
WRITER = """
import sys
from pathlib import Path
from metablocks.bench import store
from metablocks.bench.record import from_data
import json
record = from_data(json.loads(sys.argv[2]))
for number in range(int(sys.argv[3])):
    store.append(Path(sys.argv[1]), record)
    print(number, flush=True)
"""


def writer(path: Path, record: Record, count: int, before: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", before + WRITER, str(path), dumps(record), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lost(reason: str) -> Record:
    return replace(bare(case(), "now"), failure="killed", reason=reason)


@pytest.fixture
def large() -> Record:
    return lost("a long reason " * 400)


def test_records_are_read_in_the_order_they_were_appended(tmp_path: Path, record: Record, large: Record) -> None:
    path = tmp_path / "results.jsonl"
    store.append(path, record)
    store.append(path, large)
    assert store.read(path) == store.Contents((record, large), ())


def test_two_writers_never_tear_each_others_lines(tmp_path: Path, large: Record) -> None:
    path = tmp_path / "results.jsonl"
    both = [writer(path, large, 150) for _ in range(2)]
    for one in both:
        _, complaint = one.communicate()
        assert one.returncode == 0, complaint
    assert store.read(path) == store.Contents((large,) * 300, ())


def test_a_writer_that_is_killed_loses_nothing_that_it_promised(tmp_path: Path, large: Record) -> None:
    path = tmp_path / "results.jsonl"
    with writer(path, large, 1_000_000) as one:
        assert one.stdout is not None
        for _ in range(40):
            one.stdout.readline()
        one.kill()
        one.communicate()
    store.append(path, large)
    found = store.read(path)
    assert len(found.records) >= 41
    assert set(map(dumps, found.records)) == {dumps(large)}
    assert len(found.warnings) <= 1


def test_a_disk_that_is_full_ends_with_an_error_and_the_file_as_it_was(tmp_path: Path, large: Record) -> None:
    path = tmp_path / "results.jsonl"
    store.append(path, large)
    before = path.read_bytes()
    room = len(before) + 1000  # the next record fits in part
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
    one = writer(path, large, 1, before=limit)
    told, complaint = one.communicate()
    assert told == ""
    assert "StoreError" in complaint
    assert path.read_bytes() == before
    store.append(path, large)
    assert len(store.read(path).records) == 2


@given(tail=st.binary(min_size=1, max_size=60))
def test_whatever_a_dead_writer_left_the_records_around_it_are_read(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes
) -> None:
    path = tmp_path_factory.mktemp("store") / "results.jsonl"
    record = lost("gone")
    store.append(path, record)
    with path.open("ab") as file:
        file.write(tail)
    store.append(path, record)
    found = store.read(path)
    assert found.records == (record, record)
    wanted = sum(bool(line.strip()) for line in tail.split(b"\n"))
    assert len(found.warnings) == wanted


def test_a_torn_last_line_is_skipped_with_a_warning(tmp_path: Path, record: Record) -> None:
    path = tmp_path / "results.jsonl"
    store.append(path, record)
    with path.open("a") as file:
        file.write(dumps(record)[:100])
    found = store.read(path)
    assert found.records == (record,)
    assert found.warnings == (f"{path}:2: the last line is torn: a writer was stopped; skipped",)


def test_a_broken_line_in_the_middle_is_skipped_with_its_place(tmp_path: Path, record: Record) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(f"{dumps(record)}\n[1, 2]\n\n{dumps(record)}\n")
    found = store.read(path)
    assert found.records == (record, record)
    assert found.warnings == (f"{path}:2: not a record; skipped",)


def no_room(*_: object) -> int:
    raise OSError(ENOSPC, "No space left on device")


def no_disk(*_: object) -> int:
    raise OSError(EIO, "Input/output error")


def half_a_record(write: Callable[..., int]) -> Callable[..., int]:
    """A disk that takes the first half and then no more."""
    taken: list[int] = []

    def written(descriptor: int, data: memoryview) -> int:
        if taken:
            no_room()
        taken.append(descriptor)
        return write(descriptor, data[: len(data) // 2])

    return written


@pytest.mark.parametrize("at", ["first byte", "mid-record", "fsync", "read error"])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_whenever_the_disk_fails_the_file_is_as_it_was_and_goes_on_afterwards(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch, at: str, before: int
) -> None:
    path = tmp_path / "results.jsonl"
    for _ in range(before):
        store.append(path, record)
    if before == 2:
        with path.open("a") as file:
            file.write('{"schema": 2, "ti')  # of a writer that was killed
    was = path.read_bytes() if before else b""
    with monkeypatch.context() as patch:
        if at == "fsync":
            patch.setattr(os, "fsync", no_room)
        elif at == "read error":
            patch.setattr(os, "fsync", no_disk)
        else:
            patch.setattr(os, "write", no_room if at == "first byte" else half_a_record(os.write))
        with pytest.raises(StoreError, match=r"No space left|Input/output error") as told:
            store.append(path, record)
    assert "earlier records are as they were" in str(told.value)
    assert path.read_bytes() == was
    store.append(path, record)
    found = store.read(path)
    assert found.records == (record,) * (before + 1)
    assert len(found.warnings) == (before == 2)


def test_ctrl_c_within_a_write_leaves_the_file_as_it_was(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.jsonl"
    store.append(path, record)
    was = path.read_bytes()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.append(path, record)
    assert path.read_bytes() == was


def test_a_time_of_day_that_jumps_changes_nothing_of_what_is_kept(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.jsonl"
    for moment in (2e9, 1.0, -1e9):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        store.append(path, record)
    assert store.read(path) == store.Contents((record,) * 3, ())


def test_a_device_that_is_always_full_is_told_and_holds_nothing(record: Record) -> None:
    with pytest.raises(StoreError, match="No space left on device"):
        store.append(Path("/dev/full"), record)


def test_the_descriptors_of_a_failed_write_are_closed(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "fsync", no_room)
    for _ in range(3):
        with pytest.raises(StoreError):
            store.append(tmp_path / "results.jsonl", record)
    assert os.listdir("/proc/self/fd") == before


def test_a_newer_format_is_an_error(tmp_path: Path, record: Record) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps({**to_data(record), "schema": SCHEMA + 1}))
    with pytest.raises(StoreError, match="newer metablocks"):
        store.read(path)


def test_a_path_that_cannot_hold_results_is_told_before_measuring(tmp_path: Path) -> None:
    foreign = tmp_path / "notes.txt"
    foreign.write_text("my notes\n")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "results.jsonl")
    os.mkfifo(tmp_path / "pipe")
    for path, told in (
        (tmp_path / "missing" / "results.jsonl", "no folder"),
        (tmp_path, "is a folder"),
        (Path("/dev/full"), "no ordinary file"),
        (tmp_path / "pipe", "no ordinary file"),
        (foreign, "holds no results"),
        (foreign / "results.jsonl", "Not a directory"),
        (tmp_path / "link", "no folder"),
    ):
        with pytest.raises(StoreError, match=told):
            store.check(path)
    assert foreign.read_text() == "my notes\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_told_before_measuring(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(StoreError, match="cannot write"):
        store.check(tmp_path / "results.jsonl")


def test_a_folder_that_the_system_calls_read_only_is_told_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StoreError, match="cannot write in the folder"):
        store.check(tmp_path / "results.jsonl")


def test_checking_writes_nothing_and_takes_results_and_torn_results(tmp_path: Path, record: Record) -> None:
    path = tmp_path / "results.jsonl"
    store.check(path)
    assert not path.exists()
    for text in ("", "\n", dumps(record), dumps(record)[:5], f"{dumps(record)[:50]}\n{dumps(record)}\n"):
        path.write_text(text)
        store.check(path)
        assert path.read_text() == text


def test_a_store_error_ends_with_exit_code_3() -> None:
    assert StoreError.exit_code == 3
    assert signal.SIGXFSZ  # Python ignores it, so that a full quota is an error and no death
