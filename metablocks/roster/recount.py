"""A network counted again by the convention of a paper, so that an explanation is a number and not only a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from metablocks.costs import Cost, Costs, count
from metablocks.costs.run import Observer, input_shapes
from metablocks.nets.parts import module
from metablocks.plan import Part, Plan, plan
from metablocks.spec import Spec, read

NORMS = ("native_layer_norm", "native_group_norm", "native_batch_norm", "_native_batch_norm_legit_no_training")
FVCORE_NORM = 5  # operations for one element of a norm with scale and bias


@dataclass(frozen=True)
class Counted:
    """A network with its costs; for a half of a masked autoencoder `rows` are those of the half."""

    spec: Spec
    plan: Plan
    costs: Costs
    rows: tuple[str, ...]

    @property
    def total(self) -> Cost:
        return sum((self.costs.rows[row] for row in self.rows), Cost())


Recount = Callable[[Counted], tuple[float, ...]]
"""The numbers that a paper prints, by its convention: several where it prints a sum."""


def params_without_head(found: Counted) -> tuple[float, ...]:
    """Without the linear layer of the classifier."""
    head = found.plan.head
    assert head is not None
    return (found.total.params - head.classes * (head.dim + 1),)


def params_without_a_norm(found: Counted) -> tuple[float, ...]:
    """Without one norm of the last width."""
    return (found.total.params - 2 * found.plan.stages[-1].dim,)


def params_at(pixels: int) -> Recount:
    """With the positions of another resolution."""

    def recount(found: Counted) -> tuple[float, ...]:
        other = read(found.spec.name, [*found.spec.edits, f"image.size={pixels}"])
        return (count(plan(other)).total.params,)

    return recount


def trained_and_frozen(found: Counted) -> tuple[float, ...]:
    """Apart."""
    return found.total.params - found.total.frozen, found.total.frozen


def macs_per_further_image(found: Counted) -> tuple[float, ...]:
    """What a second image of a batch adds: without what is computed once for all images."""
    return (_over(found, lambda part: _run(part, 2).macs - _run(part, 1).macs),)


def macs_with_norms(found: Counted) -> tuple[float, ...]:
    """As fvcore counts, which adds five operations for each element of a norm."""
    return ((found.total.macs or 0) + FVCORE_NORM * _over(found, lambda part: _run(part, 1).norms),)


class _Seen(Observer):
    """The counter, which also adds up the elements of norms."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        if getattr(func, "_overloadpacket", func).__name__ in NORMS:
            self.norms += prod(out[0].shape)
        return out


def _over(found: Counted, measure: Callable[[Part], int]) -> int:
    """The sum over the parts of the rows, each distinct part measured once."""
    parts = [part for row, part in found.plan.parts() if row in found.rows]
    once = {part: measure(part) for part in dict.fromkeys(parts)}
    return sum(once[part] for part in parts)


def _run(part: Part, batch: int) -> _Seen:
    with torch.device("meta"):
        net = module(part).to("meta").eval()
        inputs = [torch.empty(batch, *shape) for shape in input_shapes(part)]
    with torch.inference_mode(), _Seen() as seen:
        net(*inputs)
    return seen
