"""What many rounds say together: medians with intervals, ratios with a verdict, drift. Standard library only.

Replicates are processes: rounds within one share a memory layout, a compilation and a stretch of time, so they are
not independent. An interval comes from two estimates, and on each side the wider bound counts: a bootstrap of processes
and of rounds within them, which sees the noise within processes but cannot look beyond those there are (of three, it
covers 75 % at most), and Student's t on the process medians, which needs none of the rounds but a bell curve.

Everything is done with logarithms, so that a ratio of A to B says the same as that of B to A.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from random import Random

ALPHA = 0.05
NOISE = 0.005  # layout and alignment alone move a time by as much; a ratio nearer to 1 is no news
RESAMPLES = 1000  # in each direction
DIGITS = 12  # behind the point, of a logarithm; what lies below is rounding, not measurement
TINY = 10.0**-DIGITS  # so is a spread
DRIFT_ALPHA = 0.01  # drift is looked for in every row, so false alarms have to be rare
FEWEST_FOR_DRIFT = 10
FAR = 3.0  # interquartile ranges beyond the quartiles

BETTER, WORSE, CANNOT_TELL = "better", "worse", "cannot tell"

Processes = Sequence[Sequence[float]]
"""One sequence a worker process, one positive number a round."""
Samples = list[list[list[float]]]
"""Logarithms: sample, process, round. What is estimated is the sum over the samples of their centres."""


@dataclass(frozen=True)
class Interval:
    """The median of the process medians, and the bounds between which it lies with 95 %."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """`ratio` of two speeds, the other over the base: above 1 the other is faster. The rest is None where unknown.

    `p_adjusted` is `p` after Holm's correction for all that is compared at once; the verdict goes by it.
    """

    ratio: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    verdict: str = CANNOT_TELL


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, between the two nearest ones. At least one value."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    return quantile(values, 0.25), statistics.median(values), quantile(values, 0.75)


def interval(processes: Processes, resamples: int = RESAMPLES) -> Interval | None:
    """The median of the process medians with its 95 % interval; None where there are no two processes that differ.

    Raises `ValueError` for a number that is not positive and finite.
    """
    found = _estimate([_logs(processes)], resamples)
    if found.low is None or found.high is None:
        return None
    median = statistics.median(map(statistics.median, processes))
    # of an even number, the median of logarithms is the geometric mean of the middle two: a hair below the median
    return Interval(median, min(median, found.low), max(median, found.high))


def paired(base: Processes, other: Processes, resamples: int = RESAMPLES) -> Comparison:
    """Speed of `other` over `base` from times per image that were measured in turns.

    Process k and round i of both belong together: what drifts hits both and cancels. Where a side has rounds left over,
    they are not used. Raises `ValueError` for other than as many processes, and for a time that is none.
    """
    pairs = zip(_logs(base), _logs(other), strict=True)
    ratios = [[one - two for one, two in zip(*pair, strict=False)] for pair in pairs]
    return _judged(_estimate([ratios], resamples))


def unpaired(base: Processes, other: Processes, resamples: int = RESAMPLES) -> Comparison:
    """Speed of `other` over `base` from times per image that were measured at different times: Welch's t test.

    What the machine did in between is in the ratio and cannot be told from the subjects.
    """
    negative = [[-value for value in process] for process in _logs(other)]
    return _judged(_estimate([_logs(base), negative], resamples))


def judged(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with verdicts that hold for all of them together, by Holm's step-down method.

    Of forty comparisons of equals at 5 %, two would be called different each time.
    """
    known = sorted((one.p, index) for index, one in enumerate(comparisons) if one.p is not None)
    result, largest = list(comparisons), 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        result[index] = _judged(comparisons[index], largest)
    return result


def drift(rounds: Sequence[float]) -> float | None:
    """The change over the run by a straight line, as a share of the median; None where it may be chance.

    Rounds that follow each other resemble each other, which makes slopes of nothing: the error of the slope is
    widened by the autocorrelation of what the line leaves over.
    """
    _checked(rounds)
    count = len(rounds)
    if count < FEWEST_FOR_DRIFT:
        return None
    slope, start = statistics.linear_regression(range(count), rounds)
    change = slope * (count - 1) / statistics.median(rounds)
    if abs(change) <= TINY:
        return None
    left = [value - start - slope * index for index, value in enumerate(rounds)]
    square = sum(value * value for value in left)
    if square == 0:
        return change
    found = sum(one * two for one, two in pairwise(left)) / square
    alike = min(0.95, max(0.0, found + (2 + 4 * found) / count))  # the estimate is too low by about the second term
    error = math.sqrt(square / (count - 2) / (count * (count * count - 1) / 12) * (1 + alike) / (1 - alike))
    return change if tail(abs(slope) / error, count - 2) < DRIFT_ALPHA else None


def outliers(rounds: Sequence[float]) -> int:
    """How many rounds lie far out: more than 3 interquartile ranges beyond the quartiles, and more than noise."""
    _checked(rounds)
    if not rounds:
        return 0
    low, middle, high = quartiles(rounds)
    far = max(FAR * (high - low), NOISE * middle)
    return sum(not low - far <= value <= high + far for value in rounds)


def tail(t: float, freedom: int) -> float:
    """The share of Student's t with `freedom` degrees of freedom, an integer, that lies beyond -t and t. `t` >= 0."""
    angle = math.atan(t / math.sqrt(freedom))
    odd, square = freedom % 2, math.cos(angle) ** 2
    term = total = math.cos(angle) if odd else 1.0
    for step in range(2 + odd, freedom, 2):
        term *= square * (step - 1) / step
        total += term
    inside = 2 / math.pi * (angle + (math.sin(angle) * total if freedom > 1 else 0)) if odd else math.sin(angle) * total
    return max(0.0, 1 - inside)


@cache
def student(share: float, freedom: int) -> float:
    """The t beyond which, on both sides together, Student's t has `share`. By bisection."""
    low, high = 0.0, 1.0
    while tail(high, freedom) > share:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, freedom) > share else (low, middle)
    return high


def _checked(values: Iterable[float]) -> None:
    for value in values:
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{value!r} is not a positive, finite number")


def _logs(processes: Processes) -> list[list[float]]:
    for rounds in processes:
        _checked(rounds)
        if not rounds:
            raise ValueError("a process without rounds")
    return [[math.log(value) for value in rounds] for rounds in processes]


def _estimate(samples: Samples, resamples: int) -> Comparison:
    """The centre of the samples with bounds, and the p value of its being 1. Without a verdict."""
    if not all(samples):
        raise ValueError("no processes")
    groups = [[statistics.median(process) for process in sample] for sample in samples]
    centre = sum(map(statistics.median, groups))
    alone = Comparison(math.exp(centre))
    if min(map(len, groups)) < 2:
        return alone
    squares = [statistics.variance(group) / len(group) for group in groups]
    error = math.sqrt(sum(squares))
    if error <= TINY:
        return alone  # times that do not vary say nothing about how they would
    shares = sum(square**2 / (len(group) - 1) for square, group in zip(squares, groups, strict=True))
    freedom = max(1, int(sum(squares) ** 2 / shares + 1e-9))  # Satterthwaite; of one sample, its processes less one
    mean, reach = sum(map(statistics.fmean, groups)), student(ALPHA, freedom) * error
    lows, highs = zip(_bootstrap(samples, resamples), (mean - reach, mean + reach), (centre, centre), strict=True)
    return replace(alone, low=math.exp(min(lows)), high=math.exp(max(highs)), p=tail(abs(mean) / error, freedom))


def _bootstrap(samples: Samples, resamples: int) -> tuple[float, float]:
    """The percentile interval, drawn for the samples and for their mirror image, so that no side is favoured."""
    # the samples in reverse as well: that is what comes of the two sides when they change places
    mirrored = [[[-value for value in process] for process in sample] for sample in reversed(samples)]
    (low, high), (under, over) = _percentiles(samples, resamples), _percentiles(mirrored, resamples)
    return min(low, -over), max(high, -under)


def _percentiles(samples: Samples, resamples: int) -> tuple[float, float]:
    # sorted, so that the same numbers draw the same resamples in whatever order they come; without what is rounding,
    # which would decide between equals
    rounded = [[[round(value, DIGITS) for value in process] for process in sample] for sample in samples]
    ordered = [sorted(map(sorted, sample)) for sample in rounded]
    random = Random(0)
    drawn = sorted(sum(_redrawn(sample, random) for sample in ordered) for _ in range(resamples))
    return quantile(drawn, ALPHA / 2), quantile(drawn, 1 - ALPHA / 2)


def _redrawn(sample: list[list[float]], random: Random) -> float:
    processes = random.choices(sample, k=len(sample))
    return statistics.median([_redrawn_median(process, random) for process in processes])


def _redrawn_median(ordered: list[float], random: Random) -> float:
    """The median of a resample, without drawing the resample.

    Of n uniform numbers the middle one has a beta distribution, and given it, the next is the least of those above. So
    one draw does for as many as there are rounds, and the distribution is the same.
    """
    count, half = len(ordered), len(ordered) // 2
    if count % 2:
        return ordered[min(count - 1, int(count * random.betavariate(half + 1, half + 1)))]
    low = random.betavariate(half, half + 1)
    high = 1 - (1 - low) * random.random() ** (1 / half)
    return (ordered[min(count - 1, int(count * low))] + ordered[min(count - 1, int(count * high))]) / 2


def _judged(comparison: Comparison, p: float | None = None) -> Comparison:
    """With the verdict by `p`, the p value after correction, or by its own."""
    p = comparison.p if p is None else p
    low, high = comparison.low, comparison.high
    if p is None or low is None or high is None:
        return comparison
    far = abs(math.log(comparison.ratio)) > math.log1p(NOISE)
    clear = p < ALPHA and far and not low <= 1 <= high
    verdict = (BETTER if comparison.ratio > 1 else WORSE) if clear else CANNOT_TELL
    return replace(comparison, p_adjusted=p, verdict=verdict)
