"""Stages of blocks: what a classifier, an encoder and a decoder have in common. Tokens (B, N, C) throughout."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from metablocks.core.errors import Fault, InputError
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

    def forward(self, x: Tensor) -> Tensor:
        if self.downsample is not None:
            x = self.downsample(x)
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        return x

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
        return self.run(self.embedding(self.patches(images)))

    def patches(self, images: Tensor) -> Tensor:
        """The stem's tokens. Raises `InputError` for images of another shape than was planned."""
        stem = self.plan.stem
        if tuple(images.shape[1:]) != (stem.channels, *stem.image):
            given = " x ".join(map(str, images.shape))
            wanted = f"B x {stem.channels} x {stem.image[0]} x {stem.image[1]}"
            raise InputError(Fault(f"images of {given}, where this network takes {wanted}", help="set image.size"))
        return self.stem(images)

    def run(self, tokens: Tensor) -> Tensor:
        """Tokens that are embedded through all stages."""
        for stage in self.stages:
            tokens = stage(tokens)
        return tokens
