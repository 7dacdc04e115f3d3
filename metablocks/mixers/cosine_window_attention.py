"""Scaled cosine attention inside windows, with a continuous relative-position bias: Swin V2.

Liu et al. 2021, arXiv:2111.09883, section 3.2, equation 2, and section 3.3, equations 3 and 4. Tokens (B, N, C) to
(B, N, C). The score of two tokens is the cosine of query and key over a learned temperature, which never gets below
0.01, plus 16 sigmoid(g): g is a network of two layers on their log-spaced offset, measured in windows of the size that
it was trained with.

Letters: B batch, N tokens, C width, G groups of n windows, L tokens of a window, d head_dim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.kept import Keeping
from metablocks.core.mixer import split_heads
from metablocks.core.settings import Pair
from metablocks.kernels.window_attention import window_attention
from metablocks.kernels.window_layout import Windows
from metablocks.parts.windowed import Layout, WindowedAttention, Windowing, WindowSettings
from metablocks.parts.windows import log_offsets

HIDDEN = 512  # width of the bias network, in the released code
LOGIT_LIMIT = math.log(1 / 0.01)
BIAS_RANGE = 16.0


@dataclass(frozen=True)
class Sizes:
    dim: int
    heads: int
    head_dim: int
    window: tuple[int, int]
    pretrained_window: tuple[int, int]
    shift: tuple[int, int]
    padding: tuple[int, int]
    grid: tuple[int, int]
    windowing: Windowing = field(repr=False, compare=False)  # the same where it comes to the same
    qkv_bias: bool
    proj_bias: bool


class Settings(WindowSettings):
    pretrained_window: Pair | None = Field(
        None, description="side of the window that the weights were trained with; default this one, as it is cut"
    )
    qkv_bias: bool = Field(True, description="whether query and value have a bias; the key never has")
    proj_bias: bool = Field(True, description="whether the output projection has a bias")

    def resolve(self, dim: int, grid: Grid) -> Sizes:
        heads, head_dim = split_heads(dim, self.heads, self.head_dim)
        fit = self.windowing.on(grid)
        trained = self.pretrained_window or fit.window
        size = (grid.height, grid.width)
        rest = self.windowing, self.qkv_bias, self.proj_bias
        return Sizes(dim, heads, head_dim, fit.window, trained, fit.shift, fit.padding, size, *rest)


class CosineWindowAttention(WindowedAttention, Keeping):
    no_decay = ("logit_scale", "bias_net.0.weight", "bias_net.2.weight")
    sizes: Sizes
    offsets: Tensor
    q_bias: nn.Parameter | None
    v_bias: nn.Parameter | None

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.qkv = nn.Linear(sizes.dim, 3 * sizes.dim, bias=False)
        for name in ("q_bias", "v_bias"):
            self.register_parameter(name, nn.Parameter(torch.empty(sizes.dim)) if sizes.qkv_bias else None)
        self.logit_scale = nn.Parameter(torch.empty(sizes.heads, 1, 1))
        self.bias_net = nn.Sequential(nn.Linear(2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, sizes.heads, bias=False))
        self.proj = nn.Linear(sizes.dim, sizes.dim, bias=sizes.proj_bias)
        self.register_buffer("offsets", log_offsets(sizes.window, sizes.pretrained_window), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As in the original: a temperature of 1/10, no biases."""
        nn.init.constant_(self.logit_scale, math.log(10))
        for bias in (self.q_bias, self.v_bias):
            if bias is not None:
                nn.init.zeros_(bias)

    def attend(self, windows: Tensor, layout: Layout) -> Tensor:
        packed, table, temperature = self.of_weights()
        query, key, value = self.packed(F.linear(windows, self.qkv.weight, packed))
        # the temperature goes into the query, which is smaller than the scores; heads repeat for each folded window
        query = F.normalize(query, dim=-1) * temperature.view(-1, 1, 1).repeat(windows.shape[1], 1, 1)
        bias = table[layout.index].permute(2, 0, 1)
        return self.weighted((query, F.normalize(key, dim=-1), value), bias, 1.0, layout.mask)

    def fuse(self, x: Tensor, windows: Windows) -> Tensor:
        packed, table, temperature = self.of_weights()
        fill = packed if self.sizes.windowing.pad else None  # zeros come out of the projection as its bias
        return window_attention(F.linear(x, self.qkv.weight, packed), table, windows, 1.0, fill, temperature)

    def made(self) -> tuple[Tensor | None, Tensor, Tensor]:
        """The bias of the packed projection, (offsets, heads) that of each offset of two tokens, (heads) temperatures.

        The key has no bias: it would not cancel under the cosine.
        """
        packed = None
        if self.q_bias is not None and self.v_bias is not None:
            packed = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        table = BIAS_RANGE * self.bias_net(self.offsets).sigmoid()
        return packed, table, self.logit_scale.clamp(max=LOGIT_LIMIT).exp().flatten()
