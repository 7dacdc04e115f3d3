"""The clock: how often it calls, never how long that takes."""

from __future__ import annotations

import pytest

from metablocks.bench import clock
from metablocks.bench.clock import Clock
from metablocks.bench.summary import quantile, quartiles


def test_a_span_makes_as_many_calls_as_it_is_asked_for() -> None:
    made: list[int] = []
    assert Clock("cpu").span(lambda: made.append(1), calls=5) >= 0
    assert len(made) == 5


def test_rounds_are_at_least_seven_and_at_most_five_hundred() -> None:
    timer = Clock("cpu")
    assert len(timer.rounds(lambda: None, seconds=0.0)) == clock.LEAST_ROUNDS
    assert len(timer.rounds(lambda: None, seconds=60.0)) == clock.MOST_ROUNDS


def test_a_warm_up_ends_at_its_limit_and_says_whether_it_was_steady() -> None:
    went = Clock("cpu").warm_up(lambda: None, limit_s=0.0)
    assert went.calls >= clock.LEAST_WARM[0]
    assert isinstance(went.steady, bool)


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


def test_quartiles_of_few_values_are_what_they_can_be() -> None:
    assert quartiles([3.0]) == (3.0, 3.0, 3.0)
    assert quartiles([4.0, 1.0, 2.0, 3.0, 5.0]) == (2.0, 3.0, 4.0)
    assert quantile([1.0, 2.0], 0.9) == pytest.approx(1.9)
