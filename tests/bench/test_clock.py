"""The clock: how often it calls, what it reads and when it stops. Time is a number here, so that nothing is shaky."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metablocks.bench import clock
from metablocks.bench.clock import Clock

NANOSECONDS = 10**9


class Hands:
    """A monotonic clock that moves by what calls are said to take."""

    def __init__(self) -> None:
        self.ns = 5 * NANOSECONDS

    def call(self, *seconds: float) -> Callable[[], None]:
        """A call that takes these times one after the other, and then the last one for ever."""
        left = list(seconds)

        def made() -> None:
            self.ns += round((left.pop(0) if len(left) > 1 else left[0]) * NANOSECONDS)

        return made


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    found = Hands()
    monkeypatch.setattr(time, "perf_counter_ns", lambda: found.ns)
    return found


def test_a_span_makes_as_many_calls_as_it_is_asked_for(hands: Hands) -> None:
    assert Clock("cpu").span(hands.call(0.1, 0.2, 0.4), calls=3) == pytest.approx(0.7)


def test_a_turn_times_its_rounds_apart_and_leaves_the_first_calls_out(hands: Hands) -> None:
    spans = Clock("cpu").turn(hands.call(9, 9, 0.1, 0.2, 0.3, 0.4), rounds=2, calls=2, untimed=2)
    assert spans == pytest.approx([0.3, 0.7])


def test_a_turn_without_rounds_is_empty_and_still_makes_its_untimed_calls(hands: Hands) -> None:
    before = hands.ns
    assert Clock("cpu").turn(hands.call(1.0), rounds=0, calls=5, untimed=3) == []
    assert hands.ns == before + 3 * NANOSECONDS


def test_a_clock_on_the_wall_that_jumps_changes_no_duration(monkeypatch: pytest.MonkeyPatch, hands: Hands) -> None:
    def jumping() -> float:
        raise AssertionError("a duration was read from the time of day")

    for name in ("time", "time_ns", "localtime", "gmtime"):
        monkeypatch.setattr(time, name, jumping)
    timer, call = Clock("cpu"), hands.call(0.25)
    assert timer.turn(call, rounds=2, calls=2, untimed=1) == [0.5, 0.5]
    assert timer.rounds(call, seconds=1.0) == [0.25] * clock.LEAST_ROUNDS
    assert timer.warm_up(call, limit_s=3.0).call_s == 0.25
    start = clock.now()
    call()
    assert clock.now() - start == pytest.approx(0.25)


def test_the_real_clock_never_runs_backwards() -> None:
    read = [clock.now() for _ in range(1000)]
    assert read == sorted(read)
    assert Clock("cpu").span(lambda: time.sleep(0.01)) >= 0.01


def test_rounds_are_at_least_seven_and_at_most_five_hundred(hands: Hands) -> None:
    timer = Clock("cpu")
    assert len(timer.rounds(hands.call(1.0), seconds=0.0)) == clock.LEAST_ROUNDS
    assert len(timer.rounds(hands.call(1e-3), seconds=60.0)) == clock.MOST_ROUNDS


def test_a_warm_up_of_steady_calls_ends_before_its_limit(hands: Hands) -> None:
    went = Clock("cpu").warm_up(hands.call(3.0, 0.5, 0.1), limit_s=60.0)
    assert went.steady
    assert went.call_s == pytest.approx(0.1)
    assert went.seconds < 10


@pytest.mark.parametrize(("call_s", "limit_s", "calls"), [(20.0, 3.0, 1), (2.0, 3.0, 1), (1.0, 3.0, 3), (5.0, 0.0, 1)])
def test_a_warm_up_of_slow_calls_starts_none_that_would_end_after_its_limit(
    hands: Hands, call_s: float, limit_s: float, calls: int
) -> None:
    went = Clock("cpu").warm_up(hands.call(call_s), limit_s)
    assert (went.calls, went.call_s, went.steady) == (calls, call_s, False)
    assert went.seconds <= max(call_s, limit_s)


def test_a_warm_up_that_never_settles_ends_at_its_limit_and_says_so(hands: Hands) -> None:
    went = Clock("cpu").warm_up(hands.call(*(1.5**-turn for turn in range(100))), limit_s=2.9)
    assert not went.steady
    assert went.seconds <= 2.9


def test_quick_calls_are_warmed_up_many_at_a_time(hands: Hands) -> None:
    spans: list[int] = []
    timer, call = Clock("cpu"), hands.call(2e-6)
    span = timer.span

    def counted(made: clock.Call, calls: int = 1) -> float:
        spans.append(calls)
        return span(made, calls)

    timer.span = counted  # type: ignore[method-assign]
    went = timer.warm_up(call, limit_s=3.0)
    assert went.calls == sum(spans)
    assert went.call_s == pytest.approx(2e-6)
    assert len(spans) < 100
    assert max(spans) * 2e-6 <= 2 * clock.WARM_SPAN_S


@pytest.mark.parametrize(
    ("spans", "steady"),
    [([9.0, 1.0, 1.0, 1.0], True), ([9.0, 9.0, 2.0, 1.0], False), ([5.0, 1.0, 1.0, 1.0, 1.02, 1.01], True)],
)
def test_steady_means_that_the_end_of_the_warm_up_no_longer_moves(spans: list[float], steady: bool) -> None:
    assert clock._steady(spans) is steady


def test_a_round_of_quick_calls_holds_many_and_of_slow_ones_one() -> None:
    assert clock.calls_per_round(1e-4, seconds=3.0) == 600
    assert clock.calls_per_round(1.0, seconds=3.0) == 1
    assert clock.calls_per_round(0.0, seconds=3.0) > 1


@given(st.floats(1e-6, 10), st.floats(0.01, 100), st.floats(0, 1e-3))
def test_reading_the_clock_is_at_most_a_thousandth_of_a_round(call_s: float, seconds: float, overhead: float) -> None:
    assert overhead <= 1.001e-3 * call_s * clock.calls_per_round(call_s, seconds, overhead)


def test_the_overhead_is_what_a_span_of_nothing_shows(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> int:
        hands.ns += 70
        return hands.ns

    monkeypatch.setattr(time, "perf_counter_ns", read)
    assert clock.overhead_s("cpu") == pytest.approx(70e-9)


def test_the_overhead_here_is_far_below_a_millisecond() -> None:
    assert 0 <= clock.overhead_s("cpu") < 1e-3


def test_a_machine_that_slept_is_told_apart_from_one_that_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = [40.0]
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", "boot", raising=False)
    monkeypatch.setattr(time, "CLOCK_MONOTONIC", "monotonic", raising=False)
    monkeypatch.setattr(time, "clock_gettime", lambda which: 100.0 + asleep[0] * (which == "boot"), raising=False)
    since = clock.suspended_s()
    asleep[0] += 1e-6  # two clocks are never read at once
    assert clock.slept_s(since) == 0.0
    asleep[0] += 3600
    assert clock.slept_s(since) == pytest.approx(3600)


def test_a_system_that_does_not_tell_of_sleep_leaves_it_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    assert clock.suspended_s() is None
    assert clock.slept_s(None) is None
    assert clock.slept_s(12.0) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_linux_tells_of_sleep() -> None:
    assert clock.slept_s(clock.suspended_s()) == 0.0


def test_the_stamp_is_a_label_in_utc() -> None:
    assert clock.stamp().endswith("+00:00")
    assert len(clock.stamp()) == len("2026-01-01T00:00:00+00:00")


class Card:
    """A device with streams, as the clock sees it: work is handed over at once and done later."""

    def __init__(self, hands: Hands) -> None:
        self.hands, self.synchronised = hands, 0
        self.done = {"ours": hands.ns, "another": hands.ns}

    def work(self, seconds: float, stream: str = "ours") -> None:
        self.done[stream] = max(self.done[stream], self.hands.ns) + round(seconds * NANOSECONDS)

    def synchronize(self, _device: str = "") -> None:
        self.synchronised += 1
        self.hands.ns = max(self.hands.ns, *self.done.values())


@pytest.fixture
def card(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> Card:
    import torch

    found = Card(hands)

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            self.at = max(found.done[stream], hands.ns)

        def elapsed_time(self, end: Event) -> float:
            assert hands.ns >= end.at, "an event was read before it was reached"
            return (end.at - self.at) / 1e6

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", found.synchronize)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: "ours")
    monkeypatch.setattr(torch.mps, "synchronize", found.synchronize)
    return found


def test_events_tell_how_long_a_cuda_device_was_busy(card: Card) -> None:
    card.work(7.0)  # from before: belongs to no span
    assert Clock("cuda:0").span(lambda: card.work(0.02), calls=5) == pytest.approx(0.1)
    assert card.synchronised == 2


def test_waiting_for_a_cuda_device_is_not_counted(card: Card, hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def slow_to_wake(device: str) -> None:
        card.synchronize(device)
        hands.ns += 50_000

    monkeypatch.setattr(torch.cuda, "synchronize", slow_to_wake)
    assert Clock("cuda").span(lambda: card.work(0.02)) == pytest.approx(0.02)


def test_work_on_another_stream_of_a_cuda_device_is_counted(card: Card) -> None:
    span = Clock("cuda").span(lambda: card.work(0.5, "another"))
    assert span == pytest.approx(0.5, rel=1e-3)


def test_a_metal_device_is_waited_for_before_and_after_a_span(card: Card) -> None:
    assert Clock("mps").span(lambda: card.work(0.02), calls=2) == pytest.approx(0.04)
    assert card.synchronised == 2


@pytest.mark.gpu
def test_a_real_cuda_device_is_waited_for() -> None:
    import torch

    timer = Clock("cuda")
    matrix = torch.randn(4096, 4096, device="cuda")
    timer.warm_up(lambda: matrix @ matrix, limit_s=2.0)
    one, ten = (timer.span(lambda: matrix @ matrix, calls) for calls in (10, 100))
    assert ten / one == pytest.approx(10, rel=0.1)
