"""What a count says. Dumb records: they cannot print."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from metablocks.plan import Part

CONVENTION = "MACs of matrix products, convolutions and attention for one image; FLOPs = 2 x MACs"
ACTIVATIONS = (
    "activations are the elements of the outputs of matrix products, convolutions and attention for one image; "
    "of fused attention those of its output, without its scores"
)


@dataclass(frozen=True)
class Cost:
    """`frozen` are parameters that are not trained, part of `params`.

    `macs` and `activations` are None where `unknown`, the operations that a counter does not know, is not empty.
    """

    params: int = 0
    frozen: int = 0
    macs: int | None = 0
    activations: int | None = 0
    unknown: tuple[str, ...] = ()

    @property
    def flops(self) -> int | None:
        """Floating-point operations, two for each multiply-accumulate."""
        return None if self.macs is None else 2 * self.macs

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.params + other.params,
            self.frozen + other.frozen,
            _sum(self.macs, other.macs),
            _sum(self.activations, other.activations),
            tuple(sorted({*self.unknown, *other.unknown})),
        )


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


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
