"""The stem of a hybrid ViT: a ResNet whose convolutions are weight-standardised and whose norms are group norms.

Hybrid: Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.1 and appendix B.1.3; R+Ti, R26, R50: Steiner et al. 2021,
arXiv:2106.10270, table 2. ResNet: He et al. 2015, arXiv:1512.03385, figure 5 right. Weight standardisation: Qiao et al.
2019, arXiv:1903.10520, equations 5 to 8. Padding is XLA's SAME, which is uneven where the kernel asks for it.
Letters: B batch, C channels, H W map, N tokens.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit
from metablocks.core.settings import Pair, Positive, Size
from metablocks.core.text import side
from metablocks.parts.norm import GroupNorm, NoNorm, Norm
from metablocks.parts.stem import PatchEmbed, PatchProjection, Stem, tokens

WIDENING = 4
"""A stage's output over the width inside its units."""

Depth = Annotated[int, Field(ge=1, le=1000)]
Depths = Annotated[
    tuple[Depth, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
    Field(max_length=8),
]


class ResNetV2(Stem, name="resnet_v2"):
    depths: Depths = Field(examples=["[3, 4, 9]"], description="units of each stage; [] is the root alone")
    width: Size = Field(64, description="channels of the root; stage i has 4 x 2^i times as many")
    patch: Pair = Field((1, 1), description="side of a patch of the last map: N or [H, W]")
    norm: Norm = Field(GroupNorm(groups=32), description="after each convolution, over the map")
    weight_eps: Positive = Field(1e-8, description="keeps the scale of the standardised weights finite")
    weight_eps_on: Literal["variance", "deviation"] = Field(
        "variance", description="what `weight_eps` is added to; Google's code adds it to the deviation"
    )

    @property
    def channels(self) -> int:
        """Channels of the last map."""
        return WIDENING * self.width << len(self.depths) - 1 if self.depths else self.width

    @property
    def stride(self) -> int:
        """Pixels from one place of the last map to the next."""
        return 4 << max(0, len(self.depths) - 1)

    @property
    def step(self) -> tuple[int, int]:
        return self.stride * self.patch[0], self.stride * self.patch[1]

    def grid(self, image: tuple[int, int]) -> Grid:
        # each halving rounds up, so all of them together do
        rows, columns = (-(-length // self.stride) for length in image)
        if rows % self.patch[0] or columns % self.patch[1]:
            wrong = f"a patch of {side(self.patch)} does not tile the {rows} x {columns} map of resnet_v2"
            raise GridMisfit(wrong, f"its stages reduce {side(image)} px by {self.stride}", "patch")
        return Grid(rows // self.patch[0], columns // self.patch[1])

    def norms(self, dim: int) -> list[tuple[str, Norm, int]]:  # noqa: ARG002
        inner = [self.width << index for index in range(len(self.depths))] or [self.width]
        return [("norm", self.norm, width) for width in (*inner, self.channels)]

    def build(self, channels: int, dim: int) -> nn.Module:
        return HybridStem(channels, dim, self)


class StandardConv(nn.Conv2d):
    """A convolution (B, C, H, W) to (B, C', H', W') whose weights have mean 0 and deviation 1 in each output."""

    def __init__(self, channels: tuple[int, int], kernel: int, stride: int, settings: ResNetV2) -> None:
        super().__init__(*channels, kernel, stride, bias=False)
        self.eps, self.on_variance = settings.weight_eps, settings.weight_eps_on == "variance"

    def forward(self, image: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        scale = (variance + self.eps).sqrt() if self.on_variance else variance.sqrt() + self.eps
        image = pad_same(image, self.kernel_size[0], self.stride[0])
        return F.conv2d(image, (self.weight - mean) / scale, stride=self.stride)


class NormedConv(nn.Module):
    """A convolution, then the norm over its map."""

    def __init__(self, channels: tuple[int, int], kernel: int, stride: int, settings: ResNetV2) -> None:
        super().__init__()
        self.conv = StandardConv(channels, kernel, stride, settings)
        self.norm = settings.norm.build(channels[1])

    def forward(self, image: Tensor) -> Tensor:
        image = self.conv(image)
        return self.norm(tokens(image)).unflatten(1, image.shape[2:]).permute(0, 3, 1, 2)


class Root(NormedConv):
    """Images (B, C, H, W) to a map of a quarter of their sides, rounded up."""

    def forward(self, image: Tensor) -> Tensor:
        return F.max_pool2d(pad_same(F.relu(super().forward(image)), 3, 2, -torch.inf), 3, 2)


class Unit(nn.Module):
    """The bottleneck: 1 x 1, 3 x 3 with the stride, 1 x 1, beside a shortcut that is projected where shapes change."""

    def __init__(self, channels: tuple[int, int], stride: int, settings: ResNetV2) -> None:
        super().__init__()
        inner = channels[1] // WIDENING
        changes = stride > 1 or channels[0] != channels[1]
        self.shortcut = NormedConv(channels, 1, stride, settings) if changes else None
        self.reduce = NormedConv((channels[0], inner), 1, 1, settings)
        self.middle = NormedConv((inner, inner), 3, stride, settings)
        self.widen = NormedConv((inner, channels[1]), 1, 1, settings)

    def forward(self, image: Tensor) -> Tensor:
        shortcut = image if self.shortcut is None else self.shortcut(image)
        branch = F.relu(self.middle(F.relu(self.reduce(image))))
        return F.relu(shortcut + self.widen(branch))


class HybridStem(nn.Module):
    """Images (B, channels, H, W) through root and stages to the tokens (B, N, C) of the last map's patches."""

    def __init__(self, channels: int, dim: int, settings: ResNetV2) -> None:
        super().__init__()
        self.root = Root((channels, settings.width), 7, 2, settings)
        self.stages = nn.ModuleList()
        entering = settings.width
        for index, depth in enumerate(settings.depths):
            width = WIDENING * settings.width << index
            first = Unit((entering, width), 2 if index else 1, settings)
            rest = [Unit((width, width), 1, settings) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            entering = width
        self.projection = PatchProjection(entering, dim, PatchEmbed(patch=settings.patch, norm=NoNorm()))

    def forward(self, images: Tensor, ids: Tensor | None = None) -> Tensor:
        x = self.root(images.contiguous(memory_format=torch.channels_last))
        for stage in self.stages:
            x = stage(x)
        return self.projection(x, ids)


def pad_same(image: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """The border with which a kernel gives ceil(length / stride): the odd one stands below and on the right."""
    border: list[int] = []
    for length in reversed(image.shape[2:]):
        missing = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        border += [missing // 2, missing - missing // 2]
    return F.pad(image, border, value=value) if any(border) else image
