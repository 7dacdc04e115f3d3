"""Stages of blocks: what a classifier, an encoder and a decoder have in common. Tokens (B, N, C) throughout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor, nn

from metablocks.core.errors import Fault, InputError
from metablocks.core.grid import Grid
from metablocks.core.mixer import Misfit
from metablocks.core.text import side
from metablocks.nets.parts import Embedding, module
from metablocks.parts.block import Block
from metablocks.plan.nouns import BlockKind, EncoderPlan, StagePlan


class Stage(nn.Module):
    """Downsampling, position, blocks."""

    def __init__(self, plan: StagePlan) -> None:
        super().__init__()
        self.plan = plan
        self.downsample = module(plan.downsample) if plan.downsample else None
        self.embedding = module(plan.embedding)
        self.blocks = nn.ModuleList(module(block.kind) for block in plan.blocks)
        for block, planned in zip(self._blocks(), plan.blocks, strict=True):
            block.set_drop_rate(planned.drop_path)

    def forward(self, x: Tensor, before: Grid | None = None, grid: Grid | None = None) -> Tensor:
        """Tokens of the grid `before` to those of the stage's own `grid`; the planned ones, unless told."""
        if self.downsample is not None:
            x = self.downsample(x, before)
        x = self.embedding(x, grid)
        for block in self.blocks:
            x = block(x, grid)
        return x

    def grid(self, before: Grid) -> Grid:
        """The grid of this stage; raises `GridMisfit` where the one before cannot be reduced or a mixer cannot run."""
        size = self.plan.downsample.downsample.grid(before) if self.plan.downsample else before
        grid = replace(self.plan.grid, height=size.height, width=size.width)
        for block in self._blocks():
            block.admit(grid)
        return grid

    def kinds(self) -> Iterator[tuple[BlockKind, Block]]:
        """Each block with what makes it distinct."""
        for block, planned in zip(self._blocks(), self.plan.blocks, strict=True):
            yield planned.kind, block

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]


class Encoder(nn.Module):
    """Images (B, channels, H, W) to tokens."""

    embedding: Embedding

    def __init__(self, plan: EncoderPlan) -> None:
        super().__init__()
        self.plan = plan
        self.stem = module(plan.stem)
        self.embedding = module(plan.embedding)  # type: ignore[assignment]
        self.stages = nn.ModuleList(Stage(stage) for stage in plan.stages)

    def forward(self, images: Tensor) -> Tensor:
        return self.stagewise(images)[-1][0]

    def stagewise(self, images: Tensor) -> list[tuple[Tensor, Grid]]:
        """The tokens after each stage, and the grid that they are on."""
        grids = self.grids(images)
        found = [(self.embedding(self.stem(images), grids[0]), grids[0])]
        for stage, grid in zip(self.stages, grids[1:], strict=True):
            found.append((stage(*found[-1], grid), grid))
        return found[1:]

    def grids(self, images: Tensor) -> list[Grid]:
        """The grids of the stem and of each stage. Raises `InputError` for images that this network cannot take."""
        stem = self.plan.stem
        if images.ndim != 4:
            wrong = (
                f"images of {' x '.join(map(str, images.shape))}, where this network takes B x {stem.channels} x H x W"
            )
            raise InputError(Fault(wrong, help="images[None] is a batch of one"))
        size = images.shape[2], images.shape[3]
        if images.shape[1] != stem.channels:
            wrong = f"images of {images.shape[1]} channels, where this network takes {stem.channels}"
            raise InputError(Fault(wrong, help="set image.channels"))
        if size == stem.image:
            return [self.plan.embedding.grid, *(stage.grid for stage in self.plan.stages)]
        where = "stem"
        try:
            made = stem.stem.grid(size)
            found = [replace(self.plan.embedding.grid, height=made.height, width=made.width)]
            for index, stage in enumerate(self._stages()):
                where = f"stages.{index}"
                found.append(stage.grid(found[-1]))
        except Misfit as misfit:
            wrong = f"images of {side(size)} px, where this network was built for {side(stem.image)}: {where}: {misfit}"
            raise InputError(Fault(wrong, help="build it with image.size set")) from None
        return found

    def run(self, tokens: Tensor) -> Tensor:
        """Tokens of the planned grid, that are embedded, through all stages."""
        for stage in self.stages:
            tokens = stage(tokens)
        return tokens

    def _stages(self) -> list[Stage]:
        return [stage for stage in self.stages if isinstance(stage, Stage)]
