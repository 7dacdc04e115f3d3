"""A depthwise convolution between two pointwise layers, of which the first widens: in ConvFormer and CAFormer.

Yu et al. 2022, arXiv:2210.13452, section 2; the inverted separable convolution is that of MobileNetV2 (Sandler et al.
2018, arXiv:1801.04381, section 3.3). Tokens (B, N, C) to (B, N, C). Outside the grid are zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, model_validator
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import Misfit, Mixer, MixerSettings
from metablocks.core.settings import OddSize, Positive, Size, fault
from metablocks.parts.activation import Activation, activation
from metablocks.parts.mlp import hidden_width

MAX_WEIGHTS = 1 << 30  # of the depthwise convolution, 4 GiB of them


@dataclass(frozen=True)
class Sizes:
    dim: int
    hidden: int
    kernel: int
    activation: Activation
    bias: bool


class Settings(MixerSettings):
    whole_grid = True
    takes_prefix = False

    kernel: OddSize = Field(7, description="side of the depthwise kernel, tokens, odd")
    ratio: Positive | None = Field(None, description="hidden width over C (default 2)")
    hidden: Size | None = Field(None, description="hidden width, instead of `ratio`")
    activation: Activation = Field("star_relu", description="after the first pointwise layer")
    bias: bool = Field(False, description="whether the three layers have a bias")

    @model_validator(mode="after")
    def _one_of_two(self) -> Settings:
        if self.ratio is not None and self.hidden is not None:
            wrong = "separable_conv takes `ratio` or `hidden`, not both"
            raise fault(wrong, "the other follows from the width", "hidden")
        return self

    def resolve(self, dim: int, grid: Grid) -> Sizes:
        hidden = self.hidden or hidden_width(2 if self.ratio is None else self.ratio, dim)
        weights = hidden * self.kernel**2
        if weights > MAX_WEIGHTS:
            wrong = f"a kernel of {self.kernel:,} on {hidden:,} channels holds {weights:,} weights"
            raise Misfit(wrong, f"at most {MAX_WEIGHTS:,}: use a smaller kernel", "kernel")
        return Sizes(dim, hidden, self.kernel, self.activation, self.bias)


class SeparableConv(Mixer):
    sizes: Sizes

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        hidden, kernel = sizes.hidden, sizes.kernel
        self.fc1 = nn.Linear(sizes.dim, hidden, bias=sizes.bias)
        self.activation = activation(sizes.activation)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=sizes.bias)
        self.fc2 = nn.Linear(hidden, sizes.dim, bias=sizes.bias)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        wide = self.activation(self.fc1(x))
        # (B, N, C) seen as channels_last (B, C, H, W), free of copies
        image = wide.unflatten(1, (grid.height, grid.width)).permute(0, 3, 1, 2)
        return self.fc2(self.depthwise(image).permute(0, 2, 3, 1).flatten(1, 2))
