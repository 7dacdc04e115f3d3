"""How fused window attention sees a map: the integers that its kernels are told, and what follows from them.

Letters: H W grid, h w window, L = h w tokens of a window, n windows of an image, C width, d head_dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch

Pair = tuple[int, int]

LONGEST = 576
"""Tokens of the largest window: 24 x 24, as in Swin V2."""
WIDEST = 32
"""Channels of the widest head: of 64 a backward pass takes more registers than there are."""
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
TILE = 64
"""Queries, or keys, of the largest tile of scores. A larger window has several."""


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
    def tile(self) -> int:
        """Queries, or keys, of a tile of scores: a power of two, at most `TILE`."""
        return max(16, min(TILE, 1 << (self.length - 1).bit_length()))

    @property
    def tiles(self) -> int:
        """Tiles down, or across, the scores of a window."""
        return -(-self.length // self.tile)

    @property
    def places(self) -> int:
        """Queries, or keys, of a window in whole tiles."""
        return self.tiles * self.tile

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

    4 and 7 maps of B H W C where a window is one tile: no score leaves the chip. In a larger one each tile reads for
    itself what tiles share.
    """
    places, tiles = images * prod(windows.grid) * width, windows.tiles
    if tiles == 1:
        return 4 * places, 7 * places
    queries, keys, pairs = 3 + 4 * tiles, 4 + 2 * tiles, 4 * tiles
    return (2 + 2 * tiles) * places, (queries + keys + pairs) * places
