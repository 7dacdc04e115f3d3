"""Multi-head self-attention over all tokens. ViT: Dosovitskiy et al. 2020, arXiv:2010.11929, appendix A.

Tokens (B, N, C) to (B, N, C). The packed projection is (3, heads, head_dim) along its output.

"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, model_validator
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import Mixer, MixerSettings, check_heads, split_heads
from metablocks.core.settings import Positive, Size
from metablocks.kernels.attention import attention


@dataclass(frozen=True)
class Sizes:
    dim: int
    heads: int
    head_dim: int
    qkv_bias: bool
    proj_bias: bool
    scale: float


class Settings(MixerSettings):
    head_dim: Size | None = Field(None, description="channels of a head; heads follow from the width")
    heads: Size | None = Field(None, description="number of heads, instead of `head_dim`")
    qkv_bias: bool = Field(True, description="whether query, key and value have a bias")
    proj_bias: bool = Field(True, description="whether the output projection has a bias")
    scale: Positive | None = Field(None, description="factor of the scores; default 1 / sqrt(head_dim)")
    width: Size | None = Field(None, description="channels of all heads together; default those of the block")

    @model_validator(mode="after")
    def _one_of_two(self) -> Settings:
        check_heads("attention", self.heads, self.head_dim, 64)
        return self

    def resolve(self, dim: int, grid: Grid) -> Sizes:
        heads, head_dim = split_heads(self.width or dim, self.heads, self.head_dim)
        return Sizes(dim, heads, head_dim, self.qkv_bias, self.proj_bias, self.scale or head_dim**-0.5)


class Attention(Mixer):
    sizes: Sizes

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        width = sizes.heads * sizes.head_dim
        self.qkv = nn.Linear(sizes.dim, 3 * width, bias=sizes.qkv_bias)
        self.proj = nn.Linear(width, sizes.dim, bias=sizes.proj_bias)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        packed = self.qkv(x).unflatten(-1, (3, self.sizes.heads, self.sizes.head_dim))
        return self.proj(attention(packed, self.sizes.scale, self.fused))
