"""Planned parts to modules: one function for each noun of the plan."""

from __future__ import annotations

from functools import singledispatch

from torch import Tensor, cat, nn

from metablocks import mixers
from metablocks.core.grid import Grid
from metablocks.parts.block import Block, Branch
from metablocks.parts.head import ClassifierHead
from metablocks.parts.mlp import ChannelMlp
from metablocks.parts.position import MaskToken, NoPosition, PositionTable, PrefixTokens
from metablocks.plan import nouns

Method = tuple[nn.Module, str]
"""A module and the name of one of its methods."""


@singledispatch
def module(part: object) -> nn.Module:
    """The module of a planned part, with parameters on the current default device."""
    raise TypeError(f"no module for {type(part).__name__}")


@module.register
def _(part: nouns.StemPlan) -> nn.Module:
    return part.stem.build(part.channels, part.dim)


@module.register
def _(part: nouns.DownsamplePlan) -> nn.Module:
    return part.downsample.build(part.grid, part.dims)


@module.register
def _(part: nouns.BlockKind) -> nn.Module:
    found = mixers.find(part.mixer.name)
    assert found is not None
    mixer = Branch(part.residual, found.module(part.mixer.sizes))
    return Block(part.grid, mixer, Branch(part.residual, ChannelMlp(part.mlp)) if part.mlp else None)


@module.register
def _(part: nouns.NormPlan) -> nn.Module:
    return part.norm.build(part.dim)


@module.register
def _(part: nouns.LinearPlan) -> nn.Module:
    return nn.Linear(*part.dims)


@module.register
def _(part: nouns.HeadPlan) -> nn.Module:
    first, last = part.tokens
    # to the end, where it is the patches: there may be more of them than was planned
    return ClassifierHead(part.head, part.dim, part.classes, slice(first, None if last == part.grid.tokens else last))


@module.register
def _(part: nouns.MaskPlan) -> nn.Module:
    return MaskToken(part.dim)


@module.register
def _(part: nouns.EmbeddingPlan) -> nn.Module:
    return Embedding(part)


class Embedding(nn.Module):
    """Positions added to the patches, prefix tokens put before them. Tokens (B, N, C)."""

    def __init__(self, part: nouns.EmbeddingPlan) -> None:
        super().__init__()
        has_position = not isinstance(part.position, NoPosition)
        self.position: PositionTable | None = part.position.build(part.grid, part.dim) if has_position else None
        self.prefix: PrefixTokens | None = PrefixTokens(part.prefix, part.dim) if part.prefix else None

    def forward(self, patches: Tensor, grid: Grid | None = None, ids: Tensor | None = None) -> Tensor:
        """Patches (B, H W, C) of a grid, by default the planned one, to tokens (B, P + H W, C).

        Where only some of them are there, (B, K, C), `ids` (B, K) says which.
        """
        return self.prepend(self.place(patches, grid, ids))

    def place(self, patches: Tensor, grid: Grid | None = None, ids: Tensor | None = None) -> Tensor:
        """Adds the positions of the patches."""
        return patches if self.position is None else self.position(patches, grid, ids)

    def once(self) -> list[nn.Module]:
        """This part, unless it adds nothing."""
        return [] if self.position is None and self.prefix is None else [self]

    def prepend(self, patches: Tensor) -> Tensor:
        """Puts the prefix tokens, with their positions, before the patches."""
        if self.prefix is None:
            return patches
        tokens = self.prefix() if self.position is None else self.position.at_prefix(self.prefix())
        return cat([tokens.expand(patches.shape[0], -1, -1), patches], 1)
