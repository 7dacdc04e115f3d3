"""What others take of the processors, from the system's own counts."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from metablocks.bench import contention
from metablocks.bench.contention import (
    Usage,
    foreign_share,
    foreign_share_over,
    held_back_s_over,
    quota,
    stolen_share_over,
    usage,
)

START = Usage(clock_s=100, busy_s=1000, own_s=10, cpus=2, steal_s=5.0, held_back_s=1.0)


@pytest.mark.parametrize(("busy_s", "own_s", "share"), [(20, 20, 0.0), (15, 5, 0.5), (9.9, 10, 0.0), (99, 0, 1.0)])
def test_what_is_busy_and_not_ours_is_foreign(busy_s: float, own_s: float, share: float) -> None:
    start = Usage(clock_s=100, busy_s=1000, own_s=10, cpus=2)
    assert foreign_share(start, Usage(110, 1000 + busy_s, 10 + own_s, 2)) == pytest.approx(share)


def test_the_coarse_ticks_of_many_spans_even_out() -> None:
    early = (START, replace(START, clock_s=101, busy_s=1000.99, own_s=11))
    late = (START, replace(START, clock_s=101, busy_s=1001.01, own_s=11))
    assert foreign_share_over([early, late] * 10) == pytest.approx(0.0, abs=1e-9)


def test_what_the_host_took_is_told_apart() -> None:
    span = (START, replace(START, clock_s=110, busy_s=1010, own_s=15, steal_s=7.0))
    assert stolen_share_over([span]) == pytest.approx(0.1)
    assert foreign_share_over([span]) == pytest.approx(0.25)
    assert stolen_share_over([(Usage(0, 0, 0, 2), Usage(1, 1, 1, 2))]) is None


def test_what_a_quota_held_back_is_added_up() -> None:
    assert held_back_s_over([(START, replace(START, held_back_s=1.25))] * 2) == pytest.approx(0.5)
    assert held_back_s_over([(Usage(0, 0, 0, 2), Usage(1, 1, 1, 2))]) is None


def test_what_the_system_does_not_tell_is_unknown() -> None:
    assert foreign_share(None, usage()) is None
    assert foreign_share_over([]) is None
    assert stolen_share_over([(None, START)]) is None
    assert held_back_s_over([]) is None


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of control groups in which this process belongs to `outer/inner`, under either version."""
    member = tmp_path / "cgroup"
    member.write_text("9:memory:/elsewhere\n4:cpu,cpuacct:/outer/inner\n0::/outer/inner\n")
    root = tmp_path / "groups"
    monkeypatch.setattr(contention, "MEMBERSHIP", member)
    monkeypatch.setattr(contention, "GROUPS", root)
    (root / "outer" / "inner").mkdir(parents=True)
    (root / "cpu" / "outer" / "inner").mkdir(parents=True)
    return root


def test_the_smallest_quota_above_a_process_counts(groups: Path) -> None:
    (groups / "outer" / "inner" / "cpu.max").write_text("max 100000\n")
    assert quota() is None
    (groups / "outer" / "cpu.max").write_text("150000 100000\n")
    (groups / "cpu.max").write_text("800000 100000\n")
    assert quota() == 1.5


def test_a_quota_of_the_first_version_of_groups_counts(groups: Path) -> None:
    folder = groups / "cpu" / "outer" / "inner"
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert quota() is None
    (folder / "cpu.cfs_quota_us").write_text("50000\n")
    assert quota() == 0.5


def test_time_held_back_is_read_from_either_version(groups: Path) -> None:
    assert contention._held_back_s() is None
    (groups / "outer" / "cpu.stat").write_text("usage_usec 9\nnr_throttled 3\nthrottled_usec 2500000\n")
    assert contention._held_back_s() == 2.5
    (groups / "cpu" / "outer" / "cpu.stat").write_text("nr_throttled 3\nthrottled_time 4000000000\n")
    assert contention._held_back_s() == 4.0


def test_damaged_files_of_a_group_are_unknown(groups: Path) -> None:
    (groups / "cpu.max").write_text("garbage\n")
    (groups / "cpu.stat").write_text("one two three\n")
    assert quota() is None
    assert contention._held_back_s() is None
    contention.MEMBERSHIP.write_text("garbage\n")
    assert quota() is None


def test_usage_adds_up_our_processors_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    line = "100 20 30 4000 500 6 7 8 0 0"
    stat.write_text(f"cpu  {line}\ncpu0 {line}\ncpu1 9 9 9 9 9 9 9 9 0 0\ncpu11 {line}\nintr 1 2 3\n")
    monkeypatch.setattr(contention, "STAT", stat)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(os, "sysconf", lambda _: 100, raising=False)
    found = usage()
    assert found is not None
    assert (found.busy_s, found.steal_s, found.cpus) == (1.71, 0.08, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_linux_tells() -> None:
    first, second = usage(), usage()
    assert first is not None
    assert second is not None
    assert second.clock_s >= first.clock_s
    assert second.own_s >= first.own_s
    assert 0 <= (foreign_share(first, second) or 0) <= 1
