"""Weights in the order in which oneDNN reads them, kept from call to call.

oneDNN brings a plain weight into blocks in every product, and pushes what is in the processor's caches out for it. A
copy in blocks must not outlive a change of its weight. No counter tells every change, since what is written to `.data`
does not count, and a graph hands on aliases of weights and what it makes of them. So a copy is found by what stands in
its weight, by its mark: the sum of the bits of each element, as an integer, times a random odd number of its row and
one of its column, modulo 2^64. A change of one element always shows there, of several but for a chance in a hundred
million. The sum is the same in every order. The graph works it out, in one reading of the weight.

A weight is copied when it is met again, while copies leave room for it, and forgotten when it was not met for long.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from threading import Lock

import torch
from torch import Tensor

LONG = 1000
"""Meetings of other weights after which a weight is forgotten, with its copy: some tens of calls of a network."""
ROOM = 1 << 30
"""Bytes of copies beyond which no other is made."""


@dataclass
class Met:
    """A weight that a product has met: the number of its last meeting, its copy, and at which meeting that was made."""

    at: int = 0
    copy: Tensor | None = None
    made: int = 0
    nbytes: int = 0


class Copies:
    """Of weights (N, K) in fp32 on a CPU, by size and mark, those last that were met last."""

    def __init__(self) -> None:
        self.met: OrderedDict[tuple[int, int, int], Met] = OrderedDict()
        self.meetings = 0
        self.lock = Lock()

    def of(self, weight: Tensor, mark: Tensor) -> Tensor:
        """What a product is to be given in the place of a weight with this mark: its copy in blocks, or itself."""
        rows, columns = weight.shape
        key = rows, columns, int(mark)
        with self.lock:
            self.meetings += 1
            found = self.met.setdefault(key, Met())
            self.met.move_to_end(key)
            again, found.at = found.at > 0, self.meetings
            while next(iter(self.met.values())).at < self.meetings - LONG:
                self.met.popitem(last=False)
            if again and found.copy is None and self.nbytes() + weight.nbytes <= ROOM:
                found.copy = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
                found.made = self.meetings
                found.nbytes = torch.ops.mkldnn._nbytes(found.copy)
            return weight if found.copy is None else found.copy

    def nbytes(self) -> int:
        """Bytes of all copies."""
        return sum(met.nbytes for met in self.met.values())

    def taken(self, since: int) -> int:
        """Bytes of the copies that were there after so many meetings, and were taken since."""
        return sum(met.nbytes for met in self.met.values() if met.made <= since < met.at)


copies = Copies()
"""Those of this process."""


@cache
def _factors(count: int, dim: int) -> Tensor:
    """Fixed random odd numbers (count), others for each dimension."""
    with torch.inference_mode(False):
        generator = torch.Generator().manual_seed(2 * count + dim)
        numbers = torch.randint(-(1 << 62), 1 << 62, (count,), generator=generator, dtype=torch.int64, device="cpu")
        return numbers * 2 + 1


_library = torch.library.Library("metablocks", "FRAGMENT")
_library.define("factors(Tensor weight, int dim) -> Tensor")
# a clone, since a graph may write into what it is given
_library.impl("factors", lambda weight, dim: _factors(weight.shape[dim], dim).clone(), "CPU")
_library.impl("factors", lambda weight, dim: weight.new_empty(weight.shape[dim], dtype=torch.int64), "Meta")
