"""The classifier: stem, stages, head. Images (B, channels, H, W) to logits (B, classes)."""

from __future__ import annotations

from torch import Tensor

from metablocks.nets.network import Network
from metablocks.nets.parts import module
from metablocks.nets.stack import Encoder
from metablocks.parts.head import ClassifierHead
from metablocks.plan.nouns import Plan


class Classifier(Network):
    head: ClassifierHead | None

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.encoder = Encoder(plan.encoder)
        self.head = module(plan.head) if plan.head else None  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.encoder(images)
        return tokens if self.head is None else self.head(tokens)

    def features(self, images: Tensor) -> Tensor:
        """Tokens (B, N, C) after the last stage and its norm, before pooling; prefix tokens first."""
        tokens = self.encoder(images)
        return tokens if self.head is None else self.head.norm(tokens)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """One map (B, C, H, W) a stage, without prefix tokens and without the head's norm."""
        x = self.encoder.embedding(self.encoder.patches(images))
        maps = []
        for stage in self.encoder.stages:
            x = stage(x)
            maps.append(x)
        grids = [plan.grid for plan in self.plan.stages]
        return [
            x[:, grid.prefix :].unflatten(1, (grid.height, grid.width)).permute(0, 3, 1, 2)
            for x, grid in zip(maps, grids, strict=True)
        ]
