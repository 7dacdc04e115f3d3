"""Position embeddings, added to tokens (B, N, C), and the prefix tokens before them.

learned: Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.1. sincos_2d, fixed: He et al. 2021, arXiv:2111.06377,
as in its released code: the first half of the channels encodes the column, each half is [sin | cos], prefix rows are
zero. Registers: Darcet et al. 2023, arXiv:2309.16588.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import Misfit
from metablocks.core.resample import TIMM
from metablocks.core.settings import Choice
from metablocks.parts.stem import take


class Prefix(Choice, kind="prefix"):
    parameter: ClassVar[str]
    """The name of its parameter, a word that Python can have as a name: exported programs are written in it."""

    @property
    def tokens(self) -> int:
        """How many tokens this adds."""
        return 1


class ClassToken(Prefix, name="class"):
    """One learned token that the head can read."""

    parameter = "class_token"


class Registers(Prefix, name="registers"):
    parameter = "registers"

    count: Annotated[int, Field(ge=1, le=1024)] = Field(
        examples=[4], description="number of learned tokens that no head reads"
    )

    @property
    def tokens(self) -> int:
        return self.count


class Position(Choice, kind="position"):
    def build(self, grid: Grid, dim: int) -> PositionTable:
        """The table for `grid`; raises `Misfit`."""
        raise NotImplementedError

    def fit(self, dim: int) -> None:
        """Raises `Misfit` where the table cannot be built at width `dim`."""


class Learned(Position, name="learned"):
    prefix: bool = Field(True, description="whether prefix tokens have a position too")

    def build(self, grid: Grid, dim: int) -> PositionTable:
        rows = grid.prefix if self.prefix else 0
        return PositionTable(nn.Parameter(torch.empty(1, rows + grid.height * grid.width, dim)), rows, grid)


class Sincos2d(Position, name="sincos_2d"):
    """Sines and cosines of row and column; never trained."""

    def fit(self, dim: int) -> None:
        if dim % 4:
            less = dim - dim % 4
            near = f"{less} or {less + 4}" if less else "4"
            raise Misfit(f"sincos_2d needs a width that 4 divides, not {dim}", f"use a width of {near}, or `learned`")

    def build(self, grid: Grid, dim: int) -> PositionTable:
        table = torch.zeros(1, grid.prefix + grid.height * grid.width, dim, device="cpu")
        table[0, grid.prefix :] = sincos_2d(grid.height, grid.width, dim)
        return SincosTable(nn.Parameter(table, requires_grad=False), grid.prefix, grid)


class NoPosition(Position, name="none"):
    """No position is added."""


class PositionTable(nn.Module):
    """`table` (1, rows, C): first the rows of prefix tokens, where these have a position, then those of the patches."""

    def __init__(self, table: nn.Parameter, prefix: int, grid: Grid) -> None:
        super().__init__()
        self.table = table
        self.prefix = prefix
        self.size = grid.height, grid.width

    def forward(self, patches: Tensor, grid: Grid | None = None, ids: Tensor | None = None) -> Tensor:
        """Adds the positions of a grid, which is resampled where it is not the one that the table was made for.

        Where only some patches of the grid are there, `ids` (B, K) says which.
        """
        size = (grid.height, grid.width) if grid else self.size
        rows = self.table[:, self.prefix :]
        rows = rows if size == self.size else self.at(rows, size)
        return patches + (rows if ids is None else rows[0][ids])

    def at(self, rows: Tensor, size: tuple[int, int]) -> Tensor:
        """`rows` (1, H W, C) brought to another grid: smoothed bicubic, as timm does it while a network runs."""
        return TIMM(rows, self.size, size)

    def at_prefix(self, tokens: Tensor) -> Tensor:
        """The prefix tokens (1, P, C) with their position, where they have one."""
        return tokens + self.table[:, : self.prefix] if self.prefix else tokens


class SincosTable(PositionTable):
    """A table that no grid is special to: for another one it is computed anew."""

    def at(self, rows: Tensor, size: tuple[int, int]) -> Tensor:
        where = "cpu" if rows.device.type == "mps" else rows.device  # MPS has no float64
        return sincos_2d(*size, rows.shape[-1], where)[None].to(rows)


class PrefixTokens(nn.Module):
    """Learned tokens, one parameter (1, count, C) a kind, in the order of the spec."""

    def __init__(self, prefix: tuple[Prefix, ...], dim: int) -> None:
        super().__init__()
        for kind in prefix:
            self.register_parameter(kind.parameter, nn.Parameter(torch.empty(1, kind.tokens, dim)))

    def forward(self) -> Tensor:
        return torch.cat(list(self.parameters()), 1)


class MaskToken(nn.Module):
    """The learned token that stands for what is masked."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(1, 1, dim))

    def forward(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Tokens (B, N, C) with this one in the places where `hidden` (B, N, 1) is 1 and not 0."""
        return tokens * (1 - hidden) + self.token * hidden

    def fill(self, tokens: Tensor, ids: Tensor) -> Tensor:
        """The tokens (B, K, C) that `ids` (B, N) name, and this one where they name one past the last: (B, N, C)."""
        count = tokens.shape[1]
        there = take(tokens, ids % count)
        return torch.where(ids[:, :, None] < count, there, self.token.to(tokens.dtype))


def sincos_2d(height: int, width: int, dim: int, device: torch.device | str = "cpu") -> Tensor:
    """(height width, dim) in fp32, computed in fp64."""
    rate = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64, device=device) / (dim / 4))

    def encode(length: int) -> Tensor:
        angle = torch.arange(length, dtype=torch.float64, device=device)[:, None] * rate
        return torch.cat([angle.sin(), angle.cos()], -1)

    columns = encode(width)[None, :, :].expand(height, -1, -1)
    rows = encode(height)[:, None, :].expand(-1, width, -1)
    return torch.cat([columns, rows], -1).flatten(0, 1).float()
