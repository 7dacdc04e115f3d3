"""Statistics: against tables and frozen samples, and by their properties."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metablocks.bench.statistics import (
    BETTER,
    CANNOT_TELL,
    WORSE,
    Comparison,
    drift,
    interval,
    judged,
    outliers,
    paired,
    quartiles,
    student,
    tail,
    unpaired,
)

# Samples with what scipy 1.17 (Student, Welch, with its degrees of freedom rounded down) and a bootstrap of 40,000
# whole resamples by numpy make of them.
FROZEN = json.loads((Path(__file__).parents[1] / "data" / "statistics.json").read_text())
FEW = 50  # resamples, where the bootstrap is not what is tested

numbers = st.floats(0.01, 100.0)
rounds = st.lists(numbers, min_size=1, max_size=6)
processes = st.lists(rounds, min_size=1, max_size=4)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[list[float]], list[list[float]]]:
    """As many processes, and as many rounds in each, on both sides."""
    base = draw(processes)
    return base, [draw(st.lists(numbers, min_size=len(one), max_size=len(one))) for one in base]


def close(first: Comparison, second: Comparison) -> bool:
    """Equal but for rounding, the verdict aside."""
    numbers = [[one.ratio, one.low, one.high, one.p] for one in (first, second)]
    return all(
        (one is None) == (two is None) and (one is None or math.isclose(one, two, rel_tol=1e-7, abs_tol=1e-7))
        for one, two in zip(*numbers, strict=True)
    )


# Published tables: t for both tails together.
@pytest.mark.parametrize(
    ("share", "freedom", "t"),
    [
        (0.05, 1, 12.706),
        (0.05, 2, 4.303),
        (0.05, 3, 3.182),
        (0.05, 9, 2.262),
        (0.05, 10, 2.228),
        (0.01, 2, 9.925),
        (0.01, 5, 4.032),
        (0.001, 4, 8.610),
        (0.05, 120, 1.980),
        (0.1, 30, 1.697),
    ],
)
def test_students_t_is_that_of_the_tables(share: float, freedom: int, t: float) -> None:
    assert student(share, freedom) == pytest.approx(t, abs=6e-4)
    assert tail(student(share, freedom), freedom) == pytest.approx(share)


def test_the_tail_is_everything_at_zero_and_nothing_far_out() -> None:
    for freedom in range(1, 40):
        assert tail(0.0, freedom) == 1
        assert tail(math.inf, freedom) == pytest.approx(0, abs=1e-12)


def inside(found: list[float], other: list[float], share: float) -> bool:
    """Whether two intervals are alike, up to a share of their width: what bootstraps of other draws agree to."""
    return all(abs(one - two) <= share * (other[1] - other[0]) for one, two in zip(found, other, strict=True))


def wider(told: dict[str, list[float]]) -> list[float]:
    low, high = zip(told["student"], told["bootstrap"], strict=True)
    return [min(low), max(high)]


def test_the_interval_of_a_frozen_sample_is_the_wider_of_both_estimates() -> None:
    found = interval(FROZEN["between_base"])
    assert found is not None
    assert inside([found.low, found.high], wider(FROZEN["interval"]), 0.03)
    assert found.low == pytest.approx(FROZEN["interval"]["student"][0])  # here Student's is wider, and exact


def test_a_frozen_pair_of_samples_comes_out_as_by_scipy() -> None:
    found, told = paired(FROZEN["white_base"], FROZEN["white_other"]), FROZEN["paired"]
    assert (found.ratio, found.p) == pytest.approx((told["ratio"], told["p"]))
    assert [found.low, found.high] == pytest.approx(told["student"])
    assert found.verdict == BETTER


def test_frozen_samples_from_different_times_come_out_as_by_welch() -> None:
    found, told = unpaired(FROZEN["between_base"], FROZEN["between_other"]), FROZEN["unpaired"]
    assert (found.ratio, found.p) == pytest.approx((told["ratio"], told["p"]))
    assert [found.low, found.high] == pytest.approx(told["student"])
    assert unpaired(FROZEN["between_other"], FROZEN["between_base"]).verdict == WORSE


def test_the_bootstrap_of_a_frozen_sample_is_that_of_whole_resamples() -> None:
    # processes that agree closely: Student's interval is narrow, and the bootstrap sets the bounds
    sample = [[math.exp(shift) * value for value in FROZEN["white_base"][0]] for shift in (0, 1e-6, 2e-6)]
    found = interval(sample)
    draw = random.Random(7)
    medians = sorted(
        quartiles([quartiles(draw.choices(process, k=31))[1] for process in draw.choices(sample, k=3)])[1]
        for _ in range(4000)
    )
    assert found is not None
    assert inside([found.low, found.high], [medians[100], medians[3900]], 0.15)


@given(processes, st.integers(-8, 8))
def test_an_interval_scales_with_its_unit(sample: list[list[float]], power: int) -> None:
    found = interval(sample, FEW)
    scaled = interval([[value * 2.0**power for value in one] for one in sample], FEW)
    assert (found is None) == (scaled is None)
    if found and scaled:
        expected = [bound * 2.0**power for bound in (found.median, found.low, found.high)]
        assert [scaled.median, scaled.low, scaled.high] == pytest.approx(expected)
        assert found.low <= found.median <= found.high


@given(pairs(), st.integers(-8, 8))
def test_a_ratio_has_no_unit(pair: tuple[list[list[float]], list[list[float]]], power: int) -> None:
    scaled = [[[value * 2.0**power for value in one] for one in sample] for sample in pair]
    for method in (paired, unpaired):
        assert close(method(scaled[0], scaled[1], FEW), method(*pair, FEW))


def test_rounding_does_not_decide_between_processes() -> None:
    # the least ratio of both processes is 1/3: whichever has the lesser last bit, the bootstrap draws the same
    base = [[2.0, 1.0, 2.1, 1.3, 0.7], [5.0, 1.01, 2.2, 1.3, 0.7]]
    other = [[6.0, 1.0, 1.0, 1.0, 1.0], [15.0, 1.0, 1.0, 1.0, 1.0]]
    tripled = [[[3 * value for value in one] for one in sample] for sample in (base, other)]
    assert close(paired(tripled[0], tripled[1], FEW), paired(base, other, FEW))


@given(pairs(), st.randoms(use_true_random=False))
def test_the_order_of_processes_changes_nothing(
    pair: tuple[list[list[float]], list[list[float]]], shuffled: random.Random
) -> None:
    order = list(range(len(pair[0])))
    shuffled.shuffle(order)
    base, other = ([sample[index] for index in order] for sample in pair)
    assert close(paired(base, other, FEW), paired(*pair, FEW))
    assert close(unpaired(base, pair[1], FEW), unpaired(*pair, FEW))
    found, again = interval(pair[0], FEW), interval(base, FEW)
    assert (found is None) == (again is None)
    if found and again:
        assert [again.low, again.high] == pytest.approx([found.low, found.high])


@given(pairs(), st.sampled_from([paired, unpaired]))
def test_a_against_b_is_the_inverse_of_b_against_a(
    pair: tuple[list[list[float]], list[list[float]]], method: Callable[..., Comparison]
) -> None:
    found, back = method(*pair, FEW), method(*reversed(pair), FEW)
    inverse = Comparison(
        1 / back.ratio, None if back.high is None else 1 / back.high, None if back.low is None else 1 / back.low, back.p
    )
    assert close(found, inverse)
    opposite = {BETTER: WORSE, WORSE: BETTER, CANNOT_TELL: CANNOT_TELL}
    assert found.verdict == opposite[back.verdict]


def test_one_process_gives_a_ratio_without_an_interval() -> None:
    assert interval([[1.0, 2.0, 3.0]]) is None
    assert interval([[1.0]]) is None
    for found in (paired([[2.0]], [[1.0]]), unpaired([[2.0, 2.1]], [[1.0], [1.1]])):
        assert (found.low, found.high, found.p, found.verdict) == (None, None, None, CANNOT_TELL)
    assert paired([[2.0]], [[1.0]]).ratio == pytest.approx(2)


@given(numbers, numbers, st.integers(1, 4))
def test_times_that_are_all_equal_give_no_interval(one: float, two: float, many: int) -> None:
    base, other = [[one] * 5] * many, [[two] * 5] * many
    assert interval(base) is None
    for found in (paired(base, other), unpaired(base, other)):
        assert found.ratio == pytest.approx(one / two)
        assert (found.low, found.high, found.p, found.verdict) == (None, None, None, CANNOT_TELL)
    assert drift([one] * 20) is None
    assert outliers([one] * 20) == 0


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_what_is_no_time_is_refused_by_its_value(value: float) -> None:
    good, bad = [[1.0, 2.0], [1.5, 2.5]], [[1.0, 2.0], [1.5, value]]
    calls: list[Callable[[], object]] = [
        *(lambda: interval(bad), lambda: paired(good, bad), lambda: paired(bad, good), lambda: unpaired(good, bad)),
        *(lambda: drift(bad[1]), lambda: outliers(bad[1])),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"^{value!r} is not"):
            call()


def test_sides_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired([[1.0], [1.0]], [[1.0]])
    with pytest.raises(ValueError, match="no processes"):
        unpaired([], [[1.0]])
    with pytest.raises(ValueError, match="without rounds"):
        interval([[1.0], []])


def test_a_round_without_its_counterpart_is_not_used() -> None:
    assert paired([[1.0, 2.0, 90.0]], [[1.0, 2.0]]).ratio == 1


def test_holm_steps_down_from_the_smallest_p() -> None:
    made = [Comparison(1.1, 1.01, 1.2, p) for p in (0.04, 0.01, 0.03, 0.005)]
    told = judged(made)
    assert [one.p_adjusted for one in told] == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert [one.verdict for one in told] == [CANNOT_TELL, BETTER, CANNOT_TELL, BETTER]
    assert [one.p for one in told] == [one.p for one in made]


def test_a_comparison_without_p_takes_no_part_in_the_correction() -> None:
    told = judged([Comparison(1.1), Comparison(0.9, 0.85, 0.95, 0.04)])
    assert [one.verdict for one in told] == [CANNOT_TELL, WORSE]


@pytest.mark.parametrize(
    ("ratio", "low", "high", "verdict"),
    [(1.004, 1.001, 1.007, CANNOT_TELL), (1.02, 0.99, 1.05, CANNOT_TELL), (1.02, 1.01, 1.03, BETTER)],
)
def test_a_verdict_needs_more_than_chance(ratio: float, low: float, high: float, verdict: str) -> None:
    assert judged([Comparison(ratio, low, high, 0.001)])[0].verdict == verdict


def test_a_drift_is_told_as_a_share_of_the_median() -> None:
    draw = random.Random(2)
    spent = [2 * math.exp(draw.gauss(0, 0.01) + 0.05 * index / 40) for index in range(40)]
    assert drift(spent) == pytest.approx(0.05, abs=0.015)
    assert drift(spent[::-1]) == pytest.approx(-0.05, abs=0.015)
    assert drift([1 + index for index in range(20)]) == pytest.approx(19 / 10.5)
    assert drift(spent[:9]) is None


def test_an_outlier_is_counted_and_noise_is_not() -> None:
    spent = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 3.0]
    assert outliers(spent) == 1
    assert outliers([1.0] * 9 + [1.004]) == 0
    assert outliers([1.0] * 9 + [1.2]) == 1
    assert outliers([]) == 0


def test_quartiles_lie_between_their_neighbours() -> None:
    assert quartiles([4.0, 1.0, 3.0, 2.0]) == (1.75, 2.5, 3.25)
    assert quartiles([5.0]) == (5.0, 5.0, 5.0)
