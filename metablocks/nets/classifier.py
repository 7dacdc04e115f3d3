"""The classifier: stem, stages, head. Images (B, channels, H, W) to logits (B, classes)."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch.nn.functional as F
from torch import Tensor

from metablocks.nets.network import Network
from metablocks.nets.parts import Method, module
from metablocks.nets.stack import Encoder, between
from metablocks.parts.head import ClassifierHead
from metablocks.plan.nouns import Plan


class Classifier(Network):
    head: ClassifierHead | None

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.encoder = Encoder(plan.encoder)
        self.head = module(plan.head) if plan.head else None  # type: ignore[assignment]

    def once(self) -> list[Method]:
        head: list[Method] = [(self.head, "forward")] if self.head else []
        return [(self.encoder, "embed"), *between(self.encoder.stages), *head]

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.encoder(images)
        return tokens if self.head is None else self.head(tokens)

    def features(self, images: Tensor) -> Tensor:
        """Tokens (B, N, C) after the last stage and its norm, before pooling; prefix tokens first."""
        tokens = self.encoder(images)
        return tokens if self.head is None else self.head.norm(tokens)

    def feature_maps(self, images: Tensor, strides: Sequence[int] | None = None) -> list[Tensor]:
        """One map (B, C, H, W) a stage, without prefix tokens and without the head's norm.

        With `strides`, in pixels, one map for each of them instead: of the stage whose own is nearest, enlarged
        bilinearly or reduced by means. So a network of one stride gives a pyramid, as ViTDet's does by convolutions
        that it learns (Li et al. 2022, arXiv:2203.16527, section 3).
        """
        maps = [
            x[:, grid.prefix :].unflatten(1, (grid.height, grid.width)).permute(0, 3, 1, 2)
            for x, grid in self.encoder.stagewise(images)
        ]
        return maps if strides is None else [_at(stride, images, maps) for stride in strides]


def _at(stride: int, images: Tensor, maps: list[Tensor]) -> Tensor:
    """The map of a stride, made of the nearest one: the deeper of two that are equally near."""
    height, width = (max(1, side // stride) for side in images.shape[2:])
    near = min(reversed(maps), key=lambda found: abs(log(found.shape[2] * found.shape[3] / (height * width))))
    if near.shape[2] >= height and near.shape[3] >= width:
        return F.adaptive_avg_pool2d(near, (height, width))
    return F.interpolate(near, (height, width), mode="bilinear")
