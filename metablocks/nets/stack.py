"""Stages of blocks: what a classifier, an encoder and a decoder have in common. Tokens (B, N, C) throughout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from torch import Tensor, nn

from metablocks.core.errors import Fault, InputError
from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit, Misfit
from metablocks.core.text import side
from metablocks.nets.parts import Embedding, Method, module
from metablocks.parts.block import Block
from metablocks.plan.nouns import BlockKind, EncoderPlan, StagePlan

T = TypeVar("T")


class Stage(nn.Module):
    """Downsampling, position, blocks."""

    embedding: Embedding

    def __init__(self, plan: StagePlan) -> None:
        super().__init__()
        self.plan = plan
        self.downsample = module(plan.downsample) if plan.downsample else None
        self.embedding = module(plan.embedding)  # type: ignore[assignment]
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
        grid = replace(self.plan.grid, height=size.height, width=size.width, kept=size.kept)
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
        found = [(self.embed(images, grids[0]), grids[0])]
        for stage, grid in zip(self.stages, grids[1:], strict=True):
            found.append((stage(*found[-1], grid), grid))
        return found[1:]

    @property
    def few_calls(self) -> bool:
        """Of `embed`: see `Network.once`."""
        return getattr(self.stem, "few_calls", False)

    def embed(self, images: Tensor, grid: Grid) -> Tensor:
        """Images to the tokens that enter the first stage, which are on `grid`."""
        return self.embedding(self.stem(images), grid)

    def grids(self, images: Tensor) -> list[Grid]:
        """The grids of the stem and of each stage. Raises `InputError` for images that this network cannot take."""
        size = self.size(images)
        if size == self.plan.stem.image:
            return [self.plan.embedding.grid, *(stage.grid for stage in self.plan.stages)]

        def find() -> list[Grid]:
            stem = self.stem_grid(size)
            return [stem, *follow(self.stages, stem)]

        return fitted(size, self.plan.stem.image, find)

    def size(self, images: Tensor) -> tuple[int, int]:
        """Height and width. Raises `InputError` for images of other channels than those of this network."""
        channels = self.plan.stem.channels
        if images.ndim != 4:
            wrong = f"images of {' x '.join(map(str, images.shape))}, where this network takes B x {channels} x H x W"
            raise InputError(Fault(wrong, help="images[None] is a batch of one"))
        if images.shape[1] != channels:
            wrong = f"images of {images.shape[1]} channels, where this network takes {channels}"
            raise InputError(Fault(wrong, help="set image.channels"))
        return images.shape[2], images.shape[3]

    def stem_grid(self, size: tuple[int, int]) -> Grid:
        """The grid of all tokens of the stem, with the prefix; raises `GridMisfit`."""
        try:
            made = self.plan.stem.stem.grid(size)
        except Misfit as misfit:
            raise GridMisfit(f"stem: {misfit}") from None
        return replace(self.plan.embedding.grid, height=made.height, width=made.width)


def follow(stages: nn.ModuleList, grid: Grid, where: str = "stages") -> list[Grid]:
    """The grid of each stage after `grid`; raises `GridMisfit`, which says at which stage."""
    found = [grid]
    for index, stage in enumerate(stages):
        try:
            found.append(stage.grid(found[-1]))  # type: ignore[operator]
        except Misfit as misfit:
            raise GridMisfit(f"{where}.{index}: {misfit}") from None
    return found[1:]


def between(stages: nn.ModuleList) -> list[Method]:
    """What stands before the blocks of stages: downsampling, position."""
    found: list[nn.Module] = []
    for stage in stages:
        assert isinstance(stage, Stage)
        found += [*([stage.downsample] if stage.downsample else []), *stage.embedding.once()]
    return [(part, "forward") for part in found]


def run(stages: nn.ModuleList, tokens: Tensor, grids: Sequence[Grid]) -> Tensor:
    """Embedded tokens of grids[0] through all stages, whose grids are the others."""
    for stage, before, grid in zip(stages, grids, grids[1:], strict=False):
        tokens = stage(tokens, before, grid)
    return tokens


def fitted(size: tuple[int, int], planned: tuple[int, int], find: Callable[[], T]) -> T:
    """What `find` finds for images of a size. Raises `InputError` where it raises `Misfit`."""
    try:
        return find()
    except Misfit as misfit:
        wrong = f"images of {side(size)} px, where this network was built for {side(planned)}: {misfit}"
        raise InputError(Fault(wrong, help="build it with image.size set")) from None
