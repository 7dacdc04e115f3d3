"""How fused window attention sees a map: the integers that its kernels are told, and what follows from them.

Letters: H W grid, h w window, L = h w tokens of a window, n windows of an image, C width, d head_dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch

Pair = tuple[int, int]

LONGEST = 256
"""Tokens of the largest window: a row of its scores is one tile of a kernel."""
WIDEST = 64
"""Channels of the widest head."""
WHOLE = 64
"""Tokens of the largest window whose scores are one tile as a whole."""
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
TILE = 64
"""Rows, or columns, of the scores of a larger window that a program has."""


@dataclass(frozen=True)
class Windows:
    """Windows of h x w tokens on an H x W map that is rolled up and left by `shift`, then padded to whole windows.

    `table` is the window, h x w or larger, whose offsets the rows of the bias table are.
    """

    heads: int
    grid: Pair
    window: Pair
    shift: Pair
    table: Pair

    @property
    def length(self) -> int:
        """L"""
        return prod(self.window)

    @property
    def across(self) -> Pair:
        """Windows down and across an image."""
        return -(-self.grid[0] // self.window[0]), -(-self.grid[1] // self.window[1])

    @property
    def count(self) -> int:
        """n"""
        return prod(self.across)

    @property
    def padded(self) -> Pair:
        """Rows and columns of the map in whole windows."""
        return self.across[0] * self.window[0], self.across[1] * self.window[1]

    @property
    def spare(self) -> int:
        """Places of an image's windows where no token stands."""
        return prod(self.padded) - prod(self.grid)

    @property
    def offsets(self) -> int:
        """Rows of the bias table."""
        return (2 * self.table[0] - 1) * (2 * self.table[1] - 1)

    def packed(self) -> list[int]:
        """All of it as a list of integers, which an operation of torch can take."""
        return [self.heads, *self.grid, *self.window, *self.shift, *self.table]

    @staticmethod
    def unpacked(numbers: Sequence[int]) -> Windows:
        """The inverse of `packed`."""
        heads, *rest = numbers
        grid, window, shift, table = zip(rest[::2], rest[1::2], strict=True)
        return Windows(heads, grid, window, shift, table)


def fits(windows: Windows, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether there are kernels for a case."""
    return windows.length <= LONGEST and head_dim <= WIDEST and dtype in DTYPES


def macs(windows: Windows, images: int, width: int) -> int:
    """Multiply-accumulates of the forward pass: two products a window, its padding too. The backward pass has five."""
    return 2 * images * windows.count * windows.length**2 * width


def elements(windows: Windows, images: int, width: int) -> tuple[int, int]:
    """Elements of maps that the kernels of the forward and of the backward pass read and write.

    Scores stay on the chip: 4 and 7 maps of B H W C. In a window of more than `WHOLE` tokens what its tiles share is
    read by each of them, and two sums a query and head go from one kernel to another.
    """
    places = images * prod(windows.grid) * width
    if windows.length <= WHOLE:
        return 4 * places, 7 * places
    tiles = -(-windows.length // TILE)
    sums = images * windows.count * windows.heads * tiles * TILE
    return (2 + 2 * tiles) * places, (7 + 4 * tiles) * places + 2 * sums * (1 + tiles)
