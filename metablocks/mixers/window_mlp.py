"""A linear layer over the tokens of a window, one for each head, plain or shifted: SwinMLP.

Liu et al. 2021, arXiv:2103.14030, appendix A3.3 (Swin MLP-Mixer). Tokens (B, N, C) to (B, N, C). All channels of a head
share one L x L matrix. Windows are shifted by a frame of zeros around the map, not by rolling it, as in the original.

Letters: B batch, N = H W tokens, C width, n windows of an image, L tokens of a window, h heads, d head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit, Mixer, split_heads
from metablocks.core.text import side
from metablocks.parts.window_tables import places
from metablocks.parts.windowed import Windowing, WindowSettings


@dataclass(frozen=True)
class Sizes:
    heads: int
    head_dim: int
    window: tuple[int, int]
    shift: tuple[int, int]
    padding: tuple[int, int]
    grid: tuple[int, int]
    windowing: Windowing = field(repr=False, compare=False)  # the same where it comes to the same
    bias: bool


class Settings(WindowSettings):
    bias: bool = Field(True, description="whether the layer adds a bias, one number a token and head")

    def resolve(self, dim: int, grid: Grid) -> Sizes:
        heads, head_dim = split_heads(dim, self.heads, self.head_dim)
        fit = self.windowing.on(grid)
        size = (grid.height, grid.width)
        return Sizes(heads, head_dim, fit.window, fit.shift, fit.padding, size, self.windowing, self.bias)


class WindowMlp(Mixer):
    sizes: Sizes
    bias: nn.Parameter | None
    order: Tensor
    back: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        length = sizes.window[0] * sizes.window[1]
        self.weight = nn.Parameter(torch.empty(sizes.heads, length, length))
        self.register_parameter("bias", nn.Parameter(torch.empty(sizes.heads * length)) if sizes.bias else None)
        order, back = places(sizes.grid, sizes.window, sizes.shift, True, torch.device("cpu"))
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", back, persistent=False)

    def admit(self, grid: Grid) -> None:
        window = self.sizes.windowing.on(grid).window
        if window != self.sizes.window:
            wrong = f"window_mlp has weights for a window of {side(self.sizes.window)}, which is cut to {side(window)}"
            raise GridMisfit(wrong)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        heads, head_dim = self.sizes.heads, self.sizes.head_dim
        framed, order, back = self._on(grid, x.device)
        # (B, n L, C) to (h, L, B n d): one product a head, whatever the number of images and windows
        if framed:
            x = F.pad(x, (0, 0, 0, 1))  # the row of zeros that stands for frame and padding
        images, (count, length) = x.shape[0], order.shape
        windows = x.index_select(1, order.flatten())
        tokens = windows.view(images, count, length, heads, head_dim).permute(3, 2, 0, 1, 4).flatten(2)
        if self.bias is None:
            mixed = torch.bmm(self.weight, tokens)
        else:
            mixed = torch.baddbmm(self.bias.view(heads, length, 1), self.weight, tokens)
        merged = mixed.view(heads, length, images, count, head_dim).permute(2, 3, 1, 0, 4)
        return merged.reshape(images, count * length, heads * head_dim).index_select(1, back)

    def _on(self, grid: Grid, device: torch.device) -> tuple[bool, Tensor, Tensor]:
        """Whether windows on a grid may reach past it, and where tokens stand: as was planned, or anew."""
        size, sizes = (grid.height, grid.width), self.sizes
        if size == sizes.grid:
            return any(sizes.shift) or any(sizes.padding), self.order, self.back
        fit = sizes.windowing.on(grid)
        return any(fit.shift) or sizes.windowing.pad, *places(size, fit.window, fit.shift, True, device)
