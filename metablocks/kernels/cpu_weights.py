"""Weights in the order in which oneDNN reads them, kept from call to call.

oneDNN brings a plain weight into blocks in every product, and pushes what is in the processor's caches out for it. A
copy in blocks must not outlive a change of its weight. No counter tells every change, since what is written to `.data`
does not count, and a graph hands on aliases of weights and what it makes of them. So a copy is found by what stands in
its weight, by its mark: the sum of its elements, each times a fixed random number of its row and one of its column, in
fp64. The last bit of an element shows there, unless others are a million times larger, beside which a product rounds
that bit off as well. The graph works the mark out, in one reading of the weight.

A weight is copied when it is met again, so that what changes from call to call never is, and copies that nobody has
asked for lately go when another weight comes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

REST = 10.0
"""Seconds without being asked for after which a copy may go."""


@dataclass
class Met:
    """A weight that a product has met: when that was last, and its copy."""

    at: float
    copy: Tensor | None = None


class Copies:
    """Of weights (N, K) in fp32 on a CPU, by size and mark."""

    def __init__(self) -> None:
        self.met: dict[tuple[int, int, float], Met] = {}

    def of(self, weight: Tensor, mark: Tensor) -> Tensor:
        """What a product is to be given in the place of a weight with this mark: its copy in blocks, or itself."""
        rows, columns = weight.shape
        key = rows, columns, mark.item()
        if not math.isfinite(key[-1]):
            return weight  # what is infinite hides every change
        now = time.monotonic()
        found = self.met.get(key)
        if found is None:
            self.met = {one: met for one, met in list(self.met.items()) if now - met.at <= REST} | {key: Met(now)}
            return weight
        found.at = now
        if found.copy is None:
            found.copy = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        return found.copy

    def nbytes(self) -> int:
        """Bytes of all copies."""
        return sum(met.copy.numel() * met.copy.element_size() for met in self.met.values() if met.copy is not None)


copies = Copies()
"""Those of this process."""


@cache
def _factors(count: int) -> Tensor:
    """Fixed random numbers (count) in fp64, none of them small, of both signs."""
    with torch.inference_mode(False):
        generator = torch.Generator().manual_seed(count)
        numbers = torch.rand(count, generator=generator, dtype=torch.float64, device="cpu") - 0.5
        return numbers + numbers.sign() / 2


_library = torch.library.Library("metablocks", "FRAGMENT")
_library.define("factors(Tensor weight, int dim) -> Tensor")
_library.impl("factors", lambda weight, dim: _factors(weight.shape[dim]), "CPU")
_library.impl("factors", lambda weight, dim: weight.new_empty(weight.shape[dim], dtype=torch.float64), "Meta")
