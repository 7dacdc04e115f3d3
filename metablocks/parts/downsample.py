"""Downsampling between stages: tokens (B, H W, C) to tokens (B, H' W', C').

patch_merging: Liu et al. 2021, arXiv:2103.14030, section 3.1. conv: Yu et al. 2022, arXiv:2111.11418, figure 2.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import Misfit
from metablocks.core.settings import Choice, NaturalPair, Pair
from metablocks.parts.norm import LayerNorm, NoNorm, Norm
from metablocks.parts.stem import convolved


class Downsample(Choice, kind="downsample"):
    def grid(self, grid: Grid) -> Grid:
        """The grid after; raises `Misfit`."""
        raise NotImplementedError

    def fit(self, dim: int) -> None:
        """Raises `Misfit` where its norm cannot be built for tokens of width `dim`."""

    def build(self, grid: Grid, dims: tuple[int, int]) -> nn.Module:
        """The module from `grid` and width dims[0] to width dims[1]."""
        raise NotImplementedError


class PatchMerging(Downsample, name="patch_merging"):
    norm: Norm = Field(LayerNorm(), description="over the four patches side by side, 4C")
    norm_after: Norm = Field(NoNorm(), description="after the reduction")

    def grid(self, grid: Grid) -> Grid:
        if grid.height % 2 or grid.width % 2:
            side = "an even grid: another image size or patch"
            raise Misfit(f"patch_merging halves the grid, and {grid} is odd", f"it needs {side}", "downsample")
        return Grid(grid.height // 2, grid.width // 2)

    def fit(self, dim: int) -> None:
        self.norm.fit(4 * dim)

    def build(self, grid: Grid, dims: tuple[int, int]) -> nn.Module:
        return Merging(grid, dims, self)


class ConvDownsample(Downsample, name="conv"):
    kernel: Pair = Field(description="side of the kernel, tokens: N or [H, W]")
    stride: Pair = Field(description="step of the kernel, tokens")
    padding: NaturalPair = Field((0, 0), description="zeros around the grid, tokens")
    norm: Norm = Field(NoNorm(), description="before the convolution")

    def grid(self, grid: Grid) -> Grid:
        return Grid(*convolved((grid.height, grid.width), self.kernel, self.stride, self.padding))

    def fit(self, dim: int) -> None:
        self.norm.fit(dim)

    def build(self, grid: Grid, dims: tuple[int, int]) -> nn.Module:
        return ConvReduction(grid, dims, self)


class NoDownsample(Downsample, name="none"):
    """The stage keeps grid and width."""


class Merging(nn.Module):
    """The patches (0,0), (1,0), (0,1), (1,1) of each 2 x 2 square side by side, normed and reduced."""

    def __init__(self, grid: Grid, dims: tuple[int, int], settings: PatchMerging) -> None:
        super().__init__()
        self.size = grid.height, grid.width
        self.norm = settings.norm.build(4 * dims[0])
        self.reduction = nn.Linear(4 * dims[0], dims[1], bias=False)
        self.norm_after = settings.norm_after.build(dims[1])

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, self.size)
        squares = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.norm_after(self.reduction(self.norm(torch.cat(squares, -1).flatten(1, 2))))


class ConvReduction(nn.Module):
    """Norm, then a convolution on the grid seen as channels_last."""

    def __init__(self, grid: Grid, dims: tuple[int, int], settings: ConvDownsample) -> None:
        super().__init__()
        self.size = grid.height, grid.width
        self.norm = settings.norm.build(dims[0])
        self.conv = nn.Conv2d(*dims, settings.kernel, settings.stride, settings.padding)

    def forward(self, x: Tensor) -> Tensor:
        image = self.norm(x).unflatten(1, self.size).permute(0, 3, 1, 2)
        return self.conv(image).permute(0, 2, 3, 1).flatten(1, 2)
