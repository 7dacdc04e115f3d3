"""Downsampling between stages: tokens (B, H W, C) to tokens (B, H' W', C').

patch_merging: Liu et al. 2021, arXiv:2103.14030, section 3.1. conv: Yu et al. 2022, arXiv:2111.11418, figure 2.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit
from metablocks.core.settings import Choice, NaturalPair, Pair
from metablocks.parts.norm import LayerNorm, NoNorm, Norm
from metablocks.parts.stem import convolved, tokens


class Downsample(Choice, kind="downsample"):
    whole_grid: ClassVar[bool] = True
    takes_prefix: ClassVar[bool] = False

    def grid(self, grid: Grid) -> Grid:
        """The grid after; raises `Misfit`."""
        raise NotImplementedError

    def norms(self, dims: tuple[int, int]) -> list[tuple[str, Norm, int]]:
        """(key, norm, the width that it stands at) of each norm, from width dims[0] to width dims[1]."""
        raise NotImplementedError

    def build(self, grid: Grid, dims: tuple[int, int]) -> nn.Module:
        """The module from `grid` and width dims[0] to width dims[1]."""
        raise NotImplementedError


class PatchMerging(Downsample, name="patch_merging"):
    norm: Norm = Field(LayerNorm(), description="over the four patches side by side, 4C")
    norm_after: Norm = Field(NoNorm(), description="after the reduction")
    pad: bool | None = Field(None, description="whether an odd grid gets a row or column of zeros (default no)")

    def grid(self, grid: Grid) -> Grid:
        if not self.pad and (grid.height % 2 or grid.width % 2):
            wrong = f"patch_merging cannot halve a {grid.height} x {grid.width} grid"
            raise GridMisfit(wrong, "`{patch_merging: {pad: true}}` would fill it up")
        return Grid(-(-grid.height // 2), -(-grid.width // 2))

    def norms(self, dims: tuple[int, int]) -> list[tuple[str, Norm, int]]:
        return [("norm", self.norm, 4 * dims[0]), ("norm_after", self.norm_after, dims[1])]

    def build(self, grid: Grid, dims: tuple[int, int]) -> nn.Module:
        return Merging(grid, dims, self)


class ConvDownsample(Downsample, name="conv"):
    kernel: Pair = Field(examples=[3], description="side of the kernel, tokens: N or [H, W]")
    stride: Pair = Field(examples=[2], description="step of the kernel, tokens")
    padding: NaturalPair = Field((0, 0), description="zeros around the grid, tokens")
    norm: Norm = Field(NoNorm(), description="before the convolution")

    def grid(self, grid: Grid) -> Grid:
        return Grid(*convolved((grid.height, grid.width), self.kernel, self.stride, self.padding))

    def norms(self, dims: tuple[int, int]) -> list[tuple[str, Norm, int]]:
        return [("norm", self.norm, dims[0])]

    def build(self, grid: Grid, dims: tuple[int, int]) -> nn.Module:
        return ConvReduction(grid, dims, self)


class NoDownsample(Downsample, name="none"):
    """The stage keeps grid and width."""


class Merging(nn.Module):
    """The patches (0,0), (1,0), (0,1), (1,1) of each 2 x 2 square side by side, normed and reduced."""

    def __init__(self, grid: Grid, dims: tuple[int, int], settings: PatchMerging) -> None:
        super().__init__()
        self.grid = grid
        self.pad = bool(settings.pad)
        self.norm = settings.norm.build(4 * dims[0])
        self.reduction = nn.Linear(4 * dims[0], dims[1], bias=False)
        self.norm_after = settings.norm_after.build(dims[1])

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        grid = grid or self.grid
        x = image(x, grid)
        # where nothing was planned, a graph for odd grids is one for even grids too
        if grid.height % 2 or grid.width % 2 if grid == self.grid else self.pad:
            x = F.pad(x, (0, 0, 0, grid.width % 2, 0, grid.height % 2))
        squares = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.norm_after(self.reduction(self.norm(torch.cat(squares, -1).flatten(1, 2))))


class ConvReduction(nn.Module):
    """Norm, then a convolution on the grid seen as channels_last."""

    few_calls = True

    def __init__(self, grid: Grid, dims: tuple[int, int], settings: ConvDownsample) -> None:
        super().__init__()
        self.grid = grid
        self.norm = settings.norm.build(dims[0])
        self.conv = nn.Conv2d(*dims, settings.kernel, settings.stride, settings.padding)

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        return tokens(self.conv(image(self.norm(x), grid or self.grid).permute(0, 3, 1, 2)))


def image(x: Tensor, grid: Grid) -> Tensor:
    """Tokens (B, H W, C) as (B, H, W, C)."""
    return x.unflatten(1, (grid.height, grid.width))
