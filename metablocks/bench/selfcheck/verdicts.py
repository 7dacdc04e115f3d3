"""S5, S6, S15, S16: whether better and worse are said where they should be, and only there."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from metablocks.bench import statistics
from metablocks.bench.record import Record
from metablocks.bench.selfcheck.check import Check
from metablocks.bench.selfcheck.lab import Lab, NotMeasuredError
from metablocks.bench.selfcheck.simulated import CALM, MACHINES, QUIET, Machine, pair
from metablocks.bench.statistics import BETTER, CANNOT_TELL, WORSE, Comparison, paired
from metablocks.bench.turns import times
from metablocks.core import units

REPEATS = 20
SYNTHETIC = 1000
FEW = 50  # resamples of a synthetic repeat: there the interval is that of Student's t
FALSE_ALARMS = 0.07
MOST_WRONG, LEAST_RIGHT = 3, 16  # of 20
FOUND = 0.9
NOISE_ADVICE = "close other programs and run it again; until it passes, trust no difference below 10 %"
CODE_ADVICE = "this depends on no machine: report it, with this printout"


def equals_synthetic(lab: Lab) -> Check:  # noqa: ARG001
    """A against A on simulated machines."""
    draw = random.Random(5)
    each = SYNTHETIC // len(MACHINES)
    wrong = {}
    for name, machine in MACHINES.items():
        told = [paired(*pair(draw, machine), resamples=FEW).verdict for _ in range(each)]
        wrong[name] = sum(verdict != CANNOT_TELL for verdict in told)
    share = sum(wrong.values()) / (each * len(MACHINES))
    worst = max(wrong, key=lambda name: wrong[name])
    return Check(
        f"{sum(wrong.values())} of {each * len(MACHINES):,}; {wrong[worst]} of {each} with {worst}",
        "equals, drifting too: told apart in at most 7 %",
        share <= FALSE_ALARMS and wrong[worst] <= 2 * FALSE_ALARMS * each,
        CODE_ADVICE,
        {"false_alarms_share": share},
    )


def power_synthetic(lab: Lab) -> Check:  # noqa: ARG001
    """Differences that are there, on a simulated machine."""
    draw = random.Random(6)

    def told(slower: float, machine: Machine) -> list[str]:
        return [paired(*pair(draw, machine, slower), resamples=FEW).verdict for _ in range(300)]

    five, three, little = told(0.05, CALM), told(0.03, CALM), told(0.002, QUIET)
    found = five.count(WORSE) / len(five), three.count(WORSE) / len(three)
    called = 1 - little.count(CANNOT_TELL) / len(little)
    wrong_way = five.count(BETTER) + three.count(BETTER)
    return Check(
        f"5 %: {units.percent(found[0])}; 3 %: {units.percent(found[1])}; 0.2 %: {units.percent(called)}",
        "5 and 3 % slower: worse in 90 % or more; 0.2 %: in none",
        min(found) >= FOUND and not called and not wrong_way,
        CODE_ADVICE,
        {"found_5_percent_share": found[0], "found_3_percent_share": found[1], "called_0_2_percent_share": called},
    )


def equals(lab: Lab) -> Check:
    """A against A in workers: products, in 20 repeats of three pairs of processes."""
    case = replace(lab.products() if lab.cuda else lab.case("single_products", batch=128, seconds=1.0), processes=6)
    told = repeats(*lab.measured(case, case))
    wrong = sum(one.verdict != CANNOT_TELL for one in told)
    ratios = sorted(one.ratio for one in told)
    return Check(
        f"{wrong} of {len(told)}; ratios {units.ratio(ratios[0])} to {units.ratio(ratios[-1])}",
        f"equals: told apart in at most {MOST_WRONG} of {REPEATS}",
        wrong <= MOST_WRONG,
        NOISE_ADVICE,
        {"false_alarms": wrong, "repeats": len(told), "least_ratio": ratios[0], "largest_ratio": ratios[-1]},
    )


def power(lab: Lab) -> Check:
    """5 % slower in workers: a pause against a longer one."""
    # 70 rounds in a process: a round is one pause, and 20 repeats share them
    pauses = [lab.case(name, processes=4, seconds=0.7) for name in ("pause", "longer_pause")]
    told = repeats(*lab.measured(*pauses))
    found = sum(one.verdict == WORSE for one in told)
    ratios = sorted(one.ratio for one in told)
    return Check(
        f"{found} of {len(told)}; ratios {units.ratio(ratios[0])} to {units.ratio(ratios[-1])}",
        f"5 % slower: called worse in at least {LEAST_RIGHT} of {REPEATS}",
        found >= LEAST_RIGHT,
        NOISE_ADVICE,
        {"found": found, "repeats": len(told), "least_ratio": ratios[0], "largest_ratio": ratios[-1]},
    )


def repeats(base: Record, other: Record) -> list[Comparison]:
    """20 comparisons out of two records of one pair: each three of their processes, with rounds of its own.

    No round is used twice, but processes are, or a repeat would take as long as a measurement.
    """
    sides = times(base), times(other)
    threes = list(combinations(range(len(sides[0])), 3))
    used = [0] * len(sides[0])
    shares = REPEATS * 3 // len(used)  # of the rounds of a process
    if min(len(rounds) for side in sides for rounds in side) < shares:
        raise NotMeasuredError(f"fewer than {shares} rounds in a process: close other programs and run it again")
    told = []
    for three in (threes * REPEATS)[:REPEATS]:
        mine, its = ([_part(side[process], used[process], shares) for process in three] for side in sides)
        told.append(paired(mine, its))
        for process in three:
            used[process] += 1
    return told


def _part(rounds: Sequence[float], index: int, parts: int) -> Sequence[float]:
    """One of so many stretches of the rounds, all of about the same length."""
    count = len(rounds)
    return rounds[index * count // parts : (index + 1) * count // parts]


def frozen(lab: Lab) -> Check:  # noqa: ARG001
    """Numbers that can be had from a closed formula or a printed table."""
    logs = (0.01, 0.02, 0.03)
    seen = paired([[math.exp(value)] for value in logs], [[1.0]] * 3)
    t = 0.02 / (0.01 / math.sqrt(3))
    half = 4.302653 * 0.01 / math.sqrt(3)
    wanted = {
        "p": (seen.p or 0.0, 1 - t / math.sqrt(2 + t * t)),  # with 2 degrees of freedom
        "ratio": (seen.ratio, math.exp(0.02)),
        "low": (seen.low or 0.0, math.exp(0.02 - half)),
        "high": (seen.high or 0.0, math.exp(0.02 + half)),
        "t of 9": (statistics.student(0.05, 9), 2.262157),
        "t of 120": (statistics.student(0.05, 120), 1.979930),
        "third quartile": (statistics.quartiles([4.0, 1.0, 3.0, 2.0])[2], 3.25),
        "drift": (statistics.drift([1.0 + index for index in range(20)]) or 0.0, 19 / 10.5),
    }
    wrong = [name for name, (found, true) in wanted.items() if not math.isclose(found, true, rel_tol=1e-6)]
    return Check(
        f"{len(wanted) - len(wrong)} of {len(wanted)} right" + (f", not {', '.join(wrong)}" if wrong else ""),
        "formulas and printed tables, to 1e-6",
        not wrong,
        CODE_ADVICE,
    )


def properties(lab: Lab) -> Check:  # noqa: ARG001
    """What has to hold whatever the numbers are."""
    draw = random.Random(7)
    wrong: set[str] = set()
    for _ in range(25):
        base, other = pair(draw, MACHINES["all of these"], 0.02)
        seen = paired(base, other, FEW)
        eight, times_eight = ([[8 * value for value in one] for one in side] for side in (base, other))
        scaled = paired(eight, times_eight, FEW)
        turned = paired(base[::-1], other[::-1], FEW)
        back = paired(other, base, FEW)
        wrong |= {"unit"} if not _close(seen, scaled) else set()
        wrong |= {"order"} if not _close(seen, turned) else set()
        wrong |= {"inverse"} if not math.isclose(seen.ratio * back.ratio, 1, rel_tol=1e-9) else set()
    alone = paired([[2.0]], [[1.0]]), paired([[2.0] * 5] * 3, [[1.0] * 5] * 3)
    wrong |= {"no spread, no interval"} if any(one.low is not None for one in alone) else set()
    for value in (0.0, -1.0, math.nan, math.inf):
        try:
            statistics.interval([[1.0, value], [1.0, 2.0]])
        except ValueError:
            continue
        wrong.add(f"{value} taken for a time")
    return Check(
        f"not: {', '.join(sorted(wrong))}" if wrong else "all hold",
        "unit, order and direction do not matter; bad times are refused",
        not wrong,
        CODE_ADVICE,
    )


def _close(one: Comparison, other: Comparison) -> bool:
    pairs = ((one.ratio, other.ratio), (one.low, other.low), (one.high, other.high), (one.p, other.p))
    return all(a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-7)) for a, b in pairs)
