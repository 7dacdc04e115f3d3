"""The plan of a network: every size resolved to plain numbers. Frozen, hashable, no tensors.

Each part that becomes a module of its own is a noun here; two blocks of the same `BlockKind` share one count of their
cost and one compiled graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit
from metablocks.core.text import side
from metablocks.parts.block import Residual
from metablocks.parts.downsample import Downsample
from metablocks.parts.head import Head
from metablocks.parts.init import InitName
from metablocks.parts.mlp import MlpSizes
from metablocks.parts.norm import Norm
from metablocks.parts.position import Position, Prefix
from metablocks.parts.stem import Stem


@dataclass(frozen=True)
class StemPlan:
    stem: Stem
    image: tuple[int, int]
    channels: int
    dim: int


@dataclass(frozen=True)
class EmbeddingPlan:
    """Prefix tokens and positions; `grid` counts the prefix tokens and all patches."""

    prefix: tuple[Prefix, ...]
    position: Position
    grid: Grid
    dim: int


@dataclass(frozen=True)
class DownsamplePlan:
    downsample: Downsample
    grid: Grid
    dims: tuple[int, int]


@dataclass(frozen=True)
class MixerPlan:
    """`sizes` is what the mixer's settings resolved to; `ours` is false for a mixer of another author."""

    name: str
    sizes: Any
    ours: bool

    def numbers(self) -> dict[str, Any]:
        """Every derived number by name."""
        shown = (item.name for item in dataclasses.fields(self.sizes) if item.repr)
        return {name: getattr(self.sizes, name) for name in shown}


@dataclass(frozen=True)
class BlockKind:
    """What makes a block distinct: settings, grid and width. Its drop-path rate is a tensor, so it is not here."""

    dim: int
    grid: Grid
    mixer: MixerPlan
    residual: Residual
    mlp: MlpSizes | None


@dataclass(frozen=True)
class BlockPlan:
    kind: BlockKind
    drop_path: float


@dataclass(frozen=True)
class StagePlan:
    dim: int
    grid: Grid
    downsample: DownsamplePlan | None
    embedding: EmbeddingPlan
    blocks: tuple[BlockPlan, ...]


@dataclass(frozen=True)
class NormPlan:
    norm: Norm
    grid: Grid
    dim: int


@dataclass(frozen=True)
class HeadPlan:
    """`tokens` is the range that is pooled, (first, past the last): the patches, or the class token alone."""

    head: Head
    grid: Grid
    dim: int
    classes: int
    tokens: tuple[int, int]


@dataclass(frozen=True)
class LinearPlan:
    """A linear layer over the tokens of `grid`: the decoder's embedding, and its prediction."""

    dims: tuple[int, int]
    grid: Grid


@dataclass(frozen=True)
class MaskPlan:
    """What a masked autoencoder hides: `kept` of `units` squares of `side` stem tokens stay visible.

    Of an image of another size: all but `ratio` of as many such squares as it has.
    """

    tokens: str
    ratio: float
    units: tuple[int, int]
    side: tuple[int, int]
    kept: int
    patch: tuple[int, int]
    """Pixels of one predicted patch, (height, width)."""
    normalize: str
    dim: int
    """Width of the mask token: the decoder's where patches are dropped, the encoder's where they are replaced."""

    def entering(self, grid: Grid) -> Grid:
        """What the encoder sees of the stem's `grid`; raises `GridMisfit`."""
        units = grid.height * grid.width
        return replace(grid, kept=visible(units, self.ratio)) if self.tokens == "drop" else grid

    def squares(self, image: tuple[int, int], stem: Grid, out: Grid) -> tuple[int, int]:
        """Rows and columns of masked squares on an image with these grids; raises `GridMisfit`."""
        if (self.patch[0] * out.height, self.patch[1] * out.width) != image:
            raise GridMisfit(f"a {out.height} x {out.width} grid does not divide an image of {side(image)} px")
        units = stem.height // self.side[0], stem.width // self.side[1]
        if (self.side[0] * units[0], self.side[1] * units[1]) != (stem.height, stem.width):
            wrong = f"masked squares of {side(self.side)} do not tile the stem's {stem.height} x {stem.width} tokens"
            raise GridMisfit(wrong)
        if out.height % units[0] or out.width % units[1]:
            wrong = (
                f"{units[0]} x {units[1]} masked squares do not hold whole patches of a {out.height} x {out.width} grid"
            )
            raise GridMisfit(wrong)
        return units


def visible(units: int, ratio: float) -> int:
    """How many of `units` stay visible: rounded down, as in the original. Raises `GridMisfit` for none, or all."""
    kept = int(units * (1 - ratio))
    if not 0 < kept < units:
        raise GridMisfit(f"masking {ratio:g} of {units} patch{'es' * (units > 1)} leaves {kept} visible")
    return kept


@dataclass(frozen=True)
class EncoderPlan:
    stem: StemPlan
    embedding: EmbeddingPlan
    stages: tuple[StagePlan, ...]


@dataclass(frozen=True)
class DecoderPlan:
    mask: MaskPlan
    embed: LinearPlan
    embedding: EmbeddingPlan
    stages: tuple[StagePlan, ...]
    norm: NormPlan
    predict: LinearPlan


Part = StemPlan | EmbeddingPlan | DownsamplePlan | BlockKind | NormPlan | HeadPlan | LinearPlan | MaskPlan


@dataclass(frozen=True)
class Plan:
    """A whole network. `params` and `macs` are counted on first use, by the counter that `metablocks.plan` hands in."""

    name: str
    net: str
    encoder: EncoderPlan
    norm: NormPlan | None
    head: HeadPlan | None
    decoder: DecoderPlan | None
    init: InitName
    counter: Callable[[Plan], Any] | None = field(default=None, compare=False, repr=False)

    @property
    def stages(self) -> tuple[StagePlan, ...]:
        """The stages of a classifier, or of the encoder of a masked autoencoder."""
        return self.encoder.stages

    @cached_property
    def costs(self) -> Any:
        """What the counter says, counted on first use."""
        if self.counter is None:
            raise TypeError("this plan was made without a counter: use metablocks.plan")
        return self.counter(self)

    @property
    def params(self) -> int:
        """Parameters, frozen ones included."""
        return int(self.costs.params)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates for one image, or None where an operation is unknown to the counter."""
        macs: int | None = self.costs.macs
        return macs

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Every part with its row: stem, stages.0, ..., norm, head, decoder, decoder.stages.0, ..."""
        yield "stem", self.encoder.stem
        yield "stem", self.encoder.embedding
        yield from _staged("", self.encoder.stages)
        if self.norm:
            yield "norm", self.norm
        if self.head:
            yield "head", self.head
        if self.decoder:
            yield "decoder", self.decoder.embed
            yield "decoder", self.decoder.mask
            yield "decoder", self.decoder.embedding
            yield from _staged("decoder.", self.decoder.stages)
            yield "predict", self.decoder.norm
            yield "predict", self.decoder.predict


def _staged(prefix: str, stages: tuple[StagePlan, ...]) -> Iterator[tuple[str, Part]]:
    for index, stage in enumerate(stages):
        row = f"{prefix}stages.{index}"
        if stage.downsample:
            yield row, stage.downsample
        yield row, stage.embedding
        for block in stage.blocks:
            yield row, block.kind
