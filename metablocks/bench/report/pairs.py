"""Rows that were measured in turns, compared. The statistics are those of `compare`; here they are only looked up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metablocks.bench import turns
from metablocks.bench.record import Record
from metablocks.bench.report.facts import times
from metablocks.bench.statistics import Comparison, judged, paired

MOST = 40  # pairs on a page: each costs a bootstrap, and more bars than this nobody compares by eye


@dataclass(frozen=True)
class Pair:
    """`other` against `base`: the ratio of their speeds with its interval."""

    base: Record
    other: Record
    comparison: Comparison


@dataclass(frozen=True)
class Pairs:
    """The newest pairs, in the order of the records, and how many older ones there are beside them."""

    shown: tuple[Pair, ...]
    left_out: int = 0


def pairs(records: Sequence[Record]) -> Pairs:
    """The comparisons of all pairs that have times on both sides. Verdicts allow for how many are shown together."""
    found = turns.pairs(records)
    shown = found[-MOST:]
    timed = [(base, other, times(base), times(other)) for base, other in shown]
    compared = [(base, other, paired(one, two)) for base, other, one, two in timed if one and two]
    verdicts = judged([comparison for _, _, comparison in compared])
    told = [Pair(base, other, fair) for (base, other, _), fair in zip(compared, verdicts, strict=True)]
    return Pairs(tuple(told), len(found) - len(shown))


def bounds(pair: Pair) -> tuple[float, float] | None:
    """The interval of the ratio, where there is one."""
    low, high = pair.comparison.low, pair.comparison.high
    return None if low is None or high is None else (low, high)
