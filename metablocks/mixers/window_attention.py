"""Self-attention inside windows, plain or shifted, with a learned relative-position bias.

Swin: Liu et al. 2021, arXiv:2103.14030, section 3.2, equation 4. Tokens (B, N, C) to (B, N, C). A window larger than
the grid is cut to it, and along an axis of one window nothing is shifted. With `pad` the shifted map is filled up to
whole windows with zeros, as the original does; these are seen by attention and cut off after it.

Letters: B batch, N = H W tokens, C width, n windows of an image, L tokens of a window, d head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit, Mixer, MixerSettings, check_heads, near, split_heads
from metablocks.core.settings import NaturalPair, Pair, Positive, Size, fault
from metablocks.core.text import side
from metablocks.parts.windows import padding, relative_index, shift_mask, token_order, window_order

MAX_WINDOW = 4096  # tokens; its tables have the square of that


@dataclass(frozen=True)
class Sizes:
    dim: int
    heads: int
    head_dim: int
    window: tuple[int, int]
    shift: tuple[int, int]
    padding: tuple[int, int]
    grid: tuple[int, int]
    qkv_bias: bool
    proj_bias: bool
    scale: float


class Settings(MixerSettings):
    whole_grid = True
    takes_prefix = False

    window: Pair = Field(examples=[7], description="side of a window, tokens: N or [H, W]")
    head_dim: Size | None = Field(None, description="channels of a head; heads follow from the width")
    heads: Size | None = Field(None, description="number of heads, instead of `head_dim`")
    shift: Literal["half"] | NaturalPair = Field(
        (0, 0), description="tokens that the windows are shifted by, or `half`"
    )
    pad: bool = Field(False, description="whether a grid that the window does not tile is padded")
    qkv_bias: bool = Field(True, description="whether query, key and value have a bias")
    proj_bias: bool = Field(True, description="whether the output projection has a bias")
    scale: Positive | None = Field(None, description="factor of the scores; default 1 / sqrt(head_dim)")

    @model_validator(mode="after")
    def _go_together(self) -> Settings:
        check_heads("window_attention", self.heads, self.head_dim, 32)
        if self.shift != "half" and (self.shift[0] >= self.window[0] or self.shift[1] >= self.window[1]):
            wrong = f"a shift of {side(self.shift)} is not smaller than the window of {side(self.window)}"
            raise fault(wrong, "use `shift: half`, or a smaller one", "shift")
        return self

    def resolve(self, dim: int, grid: Grid) -> Sizes:
        size = (grid.height, grid.width)
        heads, head_dim = split_heads(dim, self.heads, self.head_dim)
        window = min(self.window[0], size[0]), min(self.window[1], size[1])
        if window[0] * window[1] > MAX_WINDOW:
            wrong = f"a window of {side(window)} is {window[0] * window[1]:,} tokens, and each pair of them has a score"
            raise GridMisfit(wrong, f"at most {MAX_WINDOW:,} tokens", "window", self._tiling(size))
        missing = padding(size, window)
        if any(missing) and not self.pad:
            wrong = f"a window of {side(window)} does not tile a {grid.height} x {grid.width} grid"
            raise GridMisfit(wrong, "", "window", [*self._tiling(size), ("pad", True)], "tiles every stage")
        shift = tuple(
            0 if length <= width else step
            for length, width, step in zip(size, self.window, self._shift(window), strict=True)
        )
        scale = self.scale or head_dim**-0.5
        return Sizes(
            dim, heads, head_dim, window, (shift[0], shift[1]), missing, size, self.qkv_bias, self.proj_bias, scale
        )

    def _tiling(self, size: tuple[int, int]) -> list[tuple[str, int]]:
        """Windows that tile the grid, nearest to this one first."""
        return near("window", max(self.window), *size)

    def _shift(self, window: tuple[int, int]) -> tuple[int, int]:
        return (window[0] // 2, window[1] // 2) if self.shift == "half" else self.shift


class WindowAttention(Mixer):
    no_decay = ("bias_table",)
    sizes: Sizes
    order: Tensor
    back: Tensor
    index: Tensor
    mask: Tensor | None

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        height, width = sizes.window
        self.qkv = nn.Linear(sizes.dim, 3 * sizes.dim, bias=sizes.qkv_bias)
        # one row for each offset of two tokens in a window
        self.bias_table = nn.Parameter(torch.empty((2 * height - 1) * (2 * width - 1), sizes.heads))
        self.proj = nn.Linear(sizes.dim, sizes.dim, bias=sizes.proj_bias)
        order = window_order(sizes.grid, sizes.window, sizes.shift)
        mask = shift_mask(sizes.grid, sizes.window, sizes.shift) if any(sizes.shift) else None
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", token_order(order, sizes.grid[0] * sizes.grid[1]), persistent=False)
        self.register_buffer("index", relative_index(sizes.window), persistent=False)
        self.register_buffer("mask", mask, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The bias table as in the original: truncated normal, deviation 0.02."""
        nn.init.trunc_normal_(self.bias_table, std=0.02)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        if any(self.sizes.padding):
            x = F.pad(x, (0, 0, 0, 1))  # the row of zeros that stands for all padding
        # windows of one image that differ in their mask are folded into the heads, so that no mask is copied for images
        count, length = (1, self.index.shape[0]) if self.mask is None else self.mask.shape[:2]
        windows = x.index_select(1, self.order).view(-1, count, length, x.shape[2])
        mixed = self._attend(windows).reshape(x.shape[0], -1, x.shape[2])
        return self.proj(mixed).index_select(1, self.back)

    def _attend(self, windows: Tensor) -> Tensor:
        """(G, n, L, C) to the same shape, for G groups of n windows."""
        heads, head_dim = self.sizes.heads, self.sizes.head_dim
        # three of (G, n heads, L, d)
        packed = self.qkv(windows).unflatten(-1, (3, heads, head_dim)).permute(3, 0, 1, 4, 2, 5)
        query, key, value = packed.flatten(2, 3).unbind(0)
        bias = self.bias_table[self.index].permute(2, 0, 1)
        if self.mask is not None:
            bias = (bias + self.mask[:, None].to(bias.dtype)).flatten(0, 1)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[None], scale=self.sizes.scale)
        return mixed.unflatten(1, (-1, heads)).transpose(2, 3).flatten(3)
