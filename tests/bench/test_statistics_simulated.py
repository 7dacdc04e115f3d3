"""Statistics on simulated machines: noise, drift, neighbours that resemble each other, processes that differ."""

from __future__ import annotations

import math
import random

import pytest

from metablocks.bench.statistics import BETTER, CANNOT_TELL, WORSE, drift, paired, unpaired

FEW = 50  # resamples: the interval is not what is tested


def simulated(draw: random.Random, **what: float) -> tuple[list[list[float]], list[list[float]]]:
    """Three pairs of processes of 30 rounds in turns, in random order within a pair of rounds.

    `effect`: how much faster the other is; all else as standard deviations or changes of the logarithm: `noise` of a
    round, `drift` over a process, `alike`, the correlation of neighbouring rounds, `between` processes.
    """
    noise, alike = what.get("noise", 0.01), what.get("alike", 0.0)
    base, other = [], []
    for _ in range(3):
        state, spent = 0.0, []
        for index in range(60):
            state = alike * state + draw.gauss(0, noise * math.sqrt(1 - alike * alike))
            spent.append(state + what.get("drift", 0.0) * index / 60)
        turns = [draw.sample(spent[index : index + 2], 2) for index in range(0, 60, 2)]
        shifts = [draw.gauss(0, what.get("between", 0.0)) for _ in range(2)]
        base.append([math.exp(one + shifts[0]) for one, _ in turns])
        other.append([math.exp(two + shifts[1]) / (1 + what.get("effect", 0.0)) for _, two in turns])
    return base, other


def verdicts(many: int, **what: float) -> list[str]:
    draw = random.Random(5)
    return [paired(*simulated(draw, **what), resamples=FEW).verdict for _ in range(many)]


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"drift": 0.01},
        {"alike": 0.6},
        {"between": 0.02},
        {"drift": 0.01, "alike": 0.6, "between": 0.02},
    ],
    ids=["white noise", "drift", "autocorrelation", "between processes", "all of it"],
)
def test_equals_are_called_different_in_at_most_7_percent(what: dict[str, float]) -> None:
    told = verdicts(300, **what)
    assert sum(verdict != CANNOT_TELL for verdict in told) <= 0.07 * 300


def test_equals_measured_at_different_times_are_too() -> None:
    draw = random.Random(5)
    told = [unpaired(*simulated(draw, between=0.02), resamples=FEW).verdict for _ in range(300)]
    assert sum(verdict != CANNOT_TELL for verdict in told) <= 0.07 * 300


def test_three_percent_are_found_and_the_right_way_round() -> None:
    assert verdicts(200, effect=0.03).count(BETTER) >= 0.9 * 200
    assert verdicts(200, effect=-0.03).count(WORSE) >= 0.9 * 200


def test_five_percent_are_found_where_processes_differ_a_little() -> None:
    assert verdicts(200, effect=-0.05, between=0.005, alike=0.6).count(WORSE) >= 0.9 * 200


def test_two_permille_are_never_called() -> None:
    assert set(verdicts(200, effect=0.002, noise=0.005)) == {CANNOT_TELL}


@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_rounds_that_only_resemble_their_neighbours_do_not_drift(alike: float) -> None:
    draw = random.Random(3)
    told = [drift(simulated(draw, alike=alike)[0][0]) for _ in range(150)]
    assert sum(one is not None for one in told) <= 0.07 * 150
