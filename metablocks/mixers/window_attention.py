"""Self-attention inside windows, plain or shifted, with a learned relative-position bias.

Swin: Liu et al. 2021, arXiv:2103.14030, section 3.2, equation 4. Tokens (B, N, C) to (B, N, C). A window larger than
the grid is cut to it, and along an axis of one window nothing is shifted. With `pad` the shifted map is filled up to
whole windows with zeros, as the original does; these are seen by attention and cut off after it.

Letters: B batch, N = H W tokens, C width, n windows of an image, L tokens of a window, d head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from pydantic import Field
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import split_heads
from metablocks.core.settings import Positive
from metablocks.kernels.window_attention import window_attention
from metablocks.kernels.window_layout import Windows
from metablocks.parts.windowed import Layout, WindowedAttention, Windowing, WindowSettings


@dataclass(frozen=True)
class Sizes:
    dim: int
    heads: int
    head_dim: int
    window: tuple[int, int]
    shift: tuple[int, int]
    padding: tuple[int, int]
    grid: tuple[int, int]
    windowing: Windowing = field(repr=False, compare=False)  # the same where it comes to the same
    qkv_bias: bool
    proj_bias: bool
    scale: float


class Settings(WindowSettings):
    qkv_bias: bool = Field(True, description="whether query, key and value have a bias")
    proj_bias: bool = Field(True, description="whether the output projection has a bias")
    scale: Positive | None = Field(None, description="factor of the scores; default 1 / sqrt(head_dim)")

    def resolve(self, dim: int, grid: Grid) -> Sizes:
        heads, head_dim = split_heads(dim, self.heads, self.head_dim)
        fit = self.windowing.on(grid)
        size = (grid.height, grid.width)
        scale = self.scale or head_dim**-0.5
        return Sizes(
            dim,
            heads,
            head_dim,
            fit.window,
            fit.shift,
            fit.padding,
            size,
            self.windowing,
            self.qkv_bias,
            self.proj_bias,
            scale,
        )


class WindowAttention(WindowedAttention):
    no_decay = ("bias_table",)
    sizes: Sizes

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        height, width = sizes.window
        self.qkv = nn.Linear(sizes.dim, 3 * sizes.dim, bias=sizes.qkv_bias)
        # one row for each offset of two tokens in a window
        self.bias_table = nn.Parameter(torch.empty((2 * height - 1) * (2 * width - 1), sizes.heads))
        self.proj = nn.Linear(sizes.dim, sizes.dim, bias=sizes.proj_bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The bias table as in the original: truncated normal, deviation 0.02."""
        nn.init.trunc_normal_(self.bias_table, std=0.02)

    def attend(self, windows: Tensor, layout: Layout) -> Tensor:
        bias = self.bias_table[layout.index].permute(2, 0, 1)
        return self.weighted(self.packed(self.qkv(windows)), bias, self.sizes.scale, layout.mask)

    def fuse(self, x: Tensor, windows: Windows) -> Tensor:
        fill = self.qkv.bias if self.sizes.windowing.pad else None  # zeros come out of the projection as its bias
        return window_attention(self.qkv(x), self.bias_table, windows, self.sizes.scale, fill)
