"""What a count says. Dumb records: they cannot print."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from metablocks.plan import Part

CONVENTION = "MACs of matrix products, convolutions and attention for one image; FLOPs = 2 x MACs"


@dataclass(frozen=True)
class Cost:
    """`frozen` are parameters that are not trained, part of `params`. `macs` is None where `unknown` is not empty."""

    params: int = 0
    frozen: int = 0
    macs: int | None = 0
    unknown: tuple[str, ...] = ()

    @property
    def flops(self) -> int | None:
        """Floating-point operations, two for each multiply-accumulate."""
        return None if self.macs is None else 2 * self.macs

    def __add__(self, other: Cost) -> Cost:
        macs = None if self.macs is None or other.macs is None else self.macs + other.macs
        unknown = tuple(sorted({*self.unknown, *other.unknown}))
        return Cost(self.params + other.params, self.frozen + other.frozen, macs, unknown)


@dataclass(frozen=True)
class Costs:
    """Costs by row of the plan (stem, stages.0, ..., head) and in all, with the convention."""

    rows: dict[str, Cost]
    parts: dict[Part, Cost]
    convention: str = CONVENTION

    @property
    def total(self) -> Cost:
        return total(self.rows.values())

    @property
    def params(self) -> int:
        return self.total.params

    @property
    def macs(self) -> int | None:
        return self.total.macs


def total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())
