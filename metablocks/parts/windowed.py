"""What mixers in windows have in common: the keys, the window that a grid leaves of them, tokens in and out of windows.

Swin: Liu et al. 2021, arXiv:2103.14030, section 3.2. Letters: B batch, N = H W tokens, C width, n windows of an image,
L tokens of a window, G groups of windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit, Mixer, MixerSettings, check_heads, near
from metablocks.core.settings import NaturalPair, Pair, Size, fault
from metablocks.core.text import side
from metablocks.kernels.window_layout import Windows, fits
from metablocks.parts import window_tables
from metablocks.parts.windows import padding

MAX_WINDOW = 4096  # tokens; its tables have the square of that


@dataclass(frozen=True)
class Fit:
    """A window on a grid: what is left of it and of its shift, and the rows and columns missing to whole windows."""

    window: tuple[int, int]
    shift: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class Windowing:
    """How a mixer lays windows over a grid, whichever it is given."""

    window: tuple[int, int]
    shift: Literal["half"] | tuple[int, int]
    pad: bool
    cut: Literal["axis", "square"] | None

    def on(self, grid: Grid) -> Fit:
        """The window on `grid`; raises `GridMisfit` where it does not tile it."""
        size = (grid.height, grid.width)
        window, whole = self._cut(size)
        if window[0] * window[1] > MAX_WINDOW:
            wrong = f"a window of {side(window)} is {window[0] * window[1]:,} tokens, and each pair of them has a score"
            raise GridMisfit(wrong, f"at most {MAX_WINDOW:,} tokens", "window", self._tiling(size))
        missing = padding(size, window)
        if not self.pad and any(missing):
            wrong = f"a window of {side(window)} does not tile a {grid.height} x {grid.width} grid"
            raise GridMisfit(wrong, "", "window", [*self._tiling(size), ("pad", True)], "tiles every stage")
        steps = (window[0] // 2, window[1] // 2) if self.shift == "half" else self.shift
        return Fit(window, (0 if whole[0] else steps[0], 0 if whole[1] else steps[1]), missing)

    def _cut(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[bool, bool]]:
        """The window that a grid of `size` leaves, and along which axes nothing is shifted."""
        whole = size[0] <= self.window[0], size[1] <= self.window[1]
        if self.cut == "square" and any(whole):
            return (min(size), min(size)), (True, True)
        return (size[0] if whole[0] else self.window[0], size[1] if whole[1] else self.window[1]), whole

    def _tiling(self, size: tuple[int, int]) -> list[tuple[str, int]]:
        """Windows that tile the grid, nearest to this one first."""
        return near("window", max(self.window), *size)


class WindowSettings(MixerSettings):
    """The keys of a mixer in windows that works head by head."""

    whole_grid = True
    takes_prefix = False
    usual_head_dim: ClassVar[int] = 32

    window: Pair = Field(examples=[7], description="side of a window, tokens: N or [H, W]")
    head_dim: Size | None = Field(None, description="channels of a head; heads follow from the width")
    heads: Size | None = Field(None, description="number of heads, instead of `head_dim`")
    shift: Literal["half"] | NaturalPair = Field(
        (0, 0), description="tokens that the windows are shifted by, or `half`"
    )
    pad: bool = Field(False, description="whether a grid that the window does not tile is padded")
    cut: Literal["axis", "square"] | None = Field(
        None,
        description="a grid that is no longer than the window cuts it and stops the shift: along that axis (default), "
        "or, `square`, along both, to the shorter side",
    )

    @model_validator(mode="after")
    def _go_together(self) -> WindowSettings:
        check_heads(type(self).name, self.heads, self.head_dim, self.usual_head_dim)
        if self.shift != "half" and (self.shift[0] >= self.window[0] or self.shift[1] >= self.window[1]):
            wrong = f"a shift of {side(self.shift)} is not smaller than the window of {side(self.window)}"
            raise fault(wrong, "use `shift: half`, or a smaller one", "shift")
        return self

    @property
    def windowing(self) -> Windowing:
        """The keys that say how windows lie."""
        return Windowing(self.window, self.shift, self.pad, self.cut)


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a grid stand in its windows."""

    order: Tensor
    """(n, L) the token in each place; N where none is, which stands for a row of zeros."""
    back: Tensor
    """(N) the place of each token."""
    index: Tensor
    """(L, L) the row of each pair of tokens in a table of offsets."""
    mask: Tensor | None
    """(n, L, L) what is added to the scores of shifted windows."""


def layout(fit: Fit, grid: Grid, table: tuple[int, int], device: torch.device | str = "cpu") -> Layout:
    """Windows on a grid, for a table of the offsets in a window of the size `table`."""
    size, device = (grid.height, grid.width), torch.device(device)
    order, back = window_tables.places(size, fit.window, fit.shift, False, device)
    mask = window_tables.mask(size, fit.window, fit.shift, device) if any(fit.shift) else None
    return Layout(order, back, window_tables.offsets(fit.window, table, device), mask)


class WindowedAttention(Mixer):
    """Attention in windows: tokens (B, N, C) to (B, N, C). `attend` is what one of its kinds does in a window, `fuse`
    the same for whole maps by our kernels.

    `sizes` has heads, head_dim, grid, window as the grid cuts it, shift, padding, and the windowing that these follow
    from: on another grid they are found anew. The tables are of the window that was planned.
    """

    kept_share = 0.95  # the output of window attention, one map of eleven: its weights are made again anyway
    qkv: nn.Linear
    proj: nn.Linear
    order: Tensor
    back: Tensor
    index: Tensor
    mask: Tensor | None

    def __init__(self, sizes: Any) -> None:
        super().__init__(sizes)
        self.fit = Fit(sizes.window, sizes.shift, sizes.padding)
        for name, table in vars(layout(self.fit, Grid(*sizes.grid), sizes.window)).items():
            self.register_buffer(name, table, persistent=False)

    def attend(self, windows: Tensor, layout: Layout) -> Tensor:
        """(G, n, L, C) to the same shape, for G groups of n windows."""
        raise NotImplementedError

    def fuse(self, x: Tensor, windows: Windows) -> Tensor:
        """Tokens (B, N, C) to what the output projection takes."""
        raise NotImplementedError

    def admit(self, grid: Grid) -> None:
        window, planned = self.sizes.windowing.on(grid).window, self.sizes.window
        if window[0] > planned[0] or window[1] > planned[1]:
            wrong = f"there are weights for a window of {side(planned)}, and on a {grid} grid it is {side(window)}"
            raise GridMisfit(wrong)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        planned, windowing = (grid.height, grid.width) == self.sizes.grid, self.sizes.windowing
        fit = self.fit if planned else windowing.on(grid)
        if self.fused:
            whole = Windows(self.sizes.heads, (grid.height, grid.width), fit.window, fit.shift, self.sizes.window)
            if fits(whole, x.dtype, self.sizes.head_dim):
                return self.proj(self.fuse(x, whole))
        laid = self._planned() if planned else layout(fit, grid, self.sizes.window, x.device)
        # where nothing was planned, a graph for sizes that need padding is one for those that need none too
        if any(fit.padding) if planned else windowing.pad:
            x = F.pad(x, (0, 0, 0, 1))  # the row of zeros that stands for all padding
        (images, _, width), (count, length) = x.shape, laid.order.shape
        # windows of one image that differ in their mask are folded into the heads, so that no mask is copied for images
        groups = (images * count, 1) if laid.mask is None else (images, count)
        windows = x.index_select(1, laid.order.flatten()).view(*groups, length, width)
        mixed = self.attend(windows, laid).reshape(images, count * length, width)
        return self.proj(mixed).index_select(1, laid.back)

    def packed(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (G, n heads, L, d), from their packed projection (G, n, L, 3 heads d)."""
        packed = projected.unflatten(-1, (3, self.sizes.heads, self.sizes.head_dim)).permute(3, 0, 1, 4, 2, 5)
        query, key, value = packed.flatten(2, 3).unbind(0)
        return query, key, value

    def weighted(
        self, packed: tuple[Tensor, Tensor, Tensor], bias: Tensor, scale: float, mask: Tensor | None
    ) -> Tensor:
        """softmax(q k^T scale + bias) v as (G, n, L, C), from a bias (heads, L, L) of every window."""
        if mask is not None:
            bias = (bias + mask[:, None].to(bias.dtype)).flatten(0, 1)
        mixed = F.scaled_dot_product_attention(*packed, attn_mask=bias[None], scale=scale)
        return mixed.unflatten(1, (-1, self.sizes.heads)).transpose(2, 3).flatten(3)

    def _planned(self) -> Layout:
        """The tables of the grid that was planned."""
        return Layout(self.order, self.back, self.index, self.mask)
