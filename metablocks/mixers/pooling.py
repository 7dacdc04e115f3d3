"""Average pooling as token mixer. PoolFormer: Yu et al. 2022, arXiv:2111.11418, section 3.2, equation 4.

Tokens (B, N, C) to pool(x) - x, (B, N, C): the residual around the mixer adds x again. Tokens outside the grid do not
count in the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import Around, GridMisfit, Mixer, MixerSettings, Statistics
from metablocks.core.settings import OddSize
from metablocks.kernels.pool_residual import pool_residual
from metablocks.parts.norm import TokenGroupNorm


@dataclass(frozen=True)
class Sizes:
    window: int


class Settings(MixerSettings):
    whole_grid = True
    takes_prefix = False

    window: OddSize = Field(3, description="side of the pooling window, tokens, odd")

    def resolve(self, dim: int, grid: Grid) -> Sizes:
        reach = max(3, 2 * max(grid.height, grid.width) - 1)
        if self.window > reach:
            wrong = f"a pooling window of {self.window} reaches past a {grid} grid on both sides"
            raise GridMisfit(wrong, "", "window", [("window", size) for size in range(reach, 1, -2)])
        return Sizes(self.window)


class Pooling(Mixer):
    takes_norm = True
    sizes: Sizes

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        # (B, N, C) seen as channels_last (B, C, H, W), free of copies
        image = x.unflatten(1, (grid.height, grid.width)).permute(0, 3, 1, 2)
        window = self.sizes.window
        pooled = F.avg_pool2d(image, window, stride=1, padding=window // 2, count_include_pad=False)
        return pooled.permute(0, 2, 3, 1).flatten(1, 2) - x

    def normed(self, x: Tensor, norm: Any, known: Statistics, *grid: Grid) -> Tensor:
        """What a norm adds to a channel cancels, and what it multiplies it by may come after: no map is normed."""
        turned = self(x, *grid) * (known[1][:, None, None] * norm.weight)
        # to have a gradient, though it is zero
        return (turned if norm.bias is None else turned + (norm.bias - norm.bias)).to(x.dtype)

    def takes_branch(self, x: Tensor, norm: nn.Module, known: Statistics | None) -> bool:
        return isinstance(norm, TokenGroupNorm) and norm.groups == 1

    def branch(self, x: Tensor, around: Around, *grid: Grid) -> tuple[Tensor, Statistics]:
        return pool_residual(x, around, (grid[0].height, grid[0].width), self.sizes.window)
