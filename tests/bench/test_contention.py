"""What other programs take of the processors, from the system's own counts."""

from __future__ import annotations

import sys

import pytest

from metablocks.bench.contention import Usage, foreign_share, usage


@pytest.mark.parametrize(("busy_s", "own_s", "share"), [(20, 20, 0.0), (15, 5, 0.5), (9.9, 10, 0.0), (99, 0, 1.0)])
def test_what_is_busy_and_not_ours_is_foreign(busy_s: float, own_s: float, share: float) -> None:
    start = Usage(clock_s=100, busy_s=1000, own_s=10, cpus=2)
    assert foreign_share(start, Usage(110, 1000 + busy_s, 10 + own_s, 2)) == pytest.approx(share)


def test_what_the_system_does_not_tell_is_unknown() -> None:
    assert foreign_share(None, usage()) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_linux_tells() -> None:
    first, second = usage(), usage()
    assert first is not None
    assert second is not None
    assert second.clock_s >= first.clock_s
    assert 0 <= (foreign_share(first, second) or 0) <= 1
