"""Mixing by products along the token axis, for a fixed number of tokens N, the same for every channel.

Tokens (B, N, C) to (B, N, C). With `ratio` or `hidden` the token-mixing MLP of MLP-Mixer (Tolstikhin et al. 2021,
arXiv:2105.01601, section 2, equation 1): two layers with an activation between, the hidden width being a share of C as
in its table 1. With `layers: 1` one N x N layer, the "spatial fc" of MetaFormer (arXiv:2111.11418, section 4.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit, Mixer, MixerSettings
from metablocks.core.settings import Positive, Size, fault
from metablocks.parts.activation import Activation, activation
from metablocks.parts.mlp import hidden_width

MAX_WEIGHTS = 1 << 30  # of one layer, 4 GiB of them


@dataclass(frozen=True)
class Sizes:
    tokens: int
    hidden: int | None
    activation: Activation
    bias: bool


class Settings(MixerSettings):
    whole_grid = True

    layers: Literal[1, 2] = Field(2, description="2 is an MLP along the tokens, 1 is one linear layer")
    ratio: Positive | None = Field(None, description="hidden width over C, for two layers (default 0.5)")
    hidden: Size | None = Field(None, description="hidden width, for two layers, instead of `ratio`")
    activation: Activation = Field("gelu", description="between the two layers")
    bias: bool = Field(True, description="whether the layers add a bias, one number a token")

    @model_validator(mode="after")
    def _go_together(self) -> Settings:
        for key, default in (("ratio", None), ("hidden", None), ("activation", "gelu")):
            if self.layers == 1 and getattr(self, key) != default:
                raise fault(f"`{key}` means nothing with `layers: 1`", f"leave out `{key}`, or use `layers: 2`", key)
        if self.ratio is not None and self.hidden is not None:
            raise fault("spatial_mlp takes `ratio` or `hidden`, not both", "the other follows from the width", "hidden")
        return self

    def resolve(self, dim: int, grid: Grid) -> Sizes:
        hidden = None
        if self.layers == 2:
            hidden = self.hidden or hidden_width(0.5 if self.ratio is None else self.ratio, dim)
        weights = grid.tokens * (hidden or grid.tokens)
        if weights > MAX_WEIGHTS:
            wrong = f"spatial_mlp on {grid.tokens:,} tokens holds {weights:,} weights a layer"
            raise GridMisfit(wrong, f"at most {MAX_WEIGHTS:,}: use a larger patch or a smaller image")
        return Sizes(grid.tokens, hidden, self.activation, self.bias)


class SpatialMlp(Mixer):
    sizes: Sizes

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        if sizes.hidden is None:
            self.fc = nn.Linear(sizes.tokens, sizes.tokens, bias=sizes.bias)
        else:
            self.fc1 = nn.Linear(sizes.tokens, sizes.hidden, bias=sizes.bias)
            self.activation = activation(sizes.activation)
            self.fc2 = nn.Linear(sizes.hidden, sizes.tokens, bias=sizes.bias)

    def admit(self, grid: Grid) -> None:
        if grid.tokens != self.sizes.tokens:
            raise GridMisfit(f"spatial_mlp has weights for {self.sizes.tokens} tokens and cannot mix {grid.tokens}")

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        if self.sizes.hidden is None:
            return _left(self.fc, x)
        return _left(self.fc2, self.activation(_left(self.fc1, x)))


def _left(layer: nn.Linear, x: Tensor) -> Tensor:
    """The layer along the tokens as a product from the left, W x + b: (B, N, C) to (B, M, C) without a transpose."""
    weight = layer.weight.expand(x.shape[0], -1, -1)
    if layer.bias is None:
        return torch.bmm(weight, x)
    return torch.baddbmm(layer.bias[:, None], weight, x)
