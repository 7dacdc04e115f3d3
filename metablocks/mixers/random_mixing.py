"""Mixing by a random matrix that is never trained, for a fixed number of tokens N: RandFormer, in its last stages.

Yu et al. 2022, arXiv:2210.13452, section 2. Tokens (B, N, C) to (B, N, C). The rows of the matrix are softmaxes, so
that each token becomes a fixed mean of all. The matrix is a parameter without a gradient: it counts as one, and it is
saved.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit, Mixer, MixerSettings

MAX_WEIGHTS = 1 << 30  # of the matrix, 4 GiB of them


@dataclass(frozen=True)
class Sizes:
    tokens: int


class Settings(MixerSettings):
    """No keys."""

    whole_grid = True

    def resolve(self, dim: int, grid: Grid) -> Sizes:
        weights = grid.tokens**2
        if weights > MAX_WEIGHTS:
            wrong = f"random_mixing on {grid.tokens:,} tokens holds {weights:,} weights"
            raise GridMisfit(wrong, f"at most {MAX_WEIGHTS:,}: use a larger patch or a smaller image")
        return Sizes(grid.tokens)


class RandomMixing(Mixer):
    sizes: Sizes

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.matrix = nn.Parameter(torch.empty(sizes.tokens, sizes.tokens), requires_grad=False)

    def reset_parameters(self) -> None:
        """Each row the softmax of uniform numbers from 0 to 1."""
        self.matrix.copy_(torch.rand_like(self.matrix).softmax(-1))

    def admit(self, grid: Grid) -> None:
        if grid.tokens != self.sizes.tokens:
            raise GridMisfit(f"random_mixing has a matrix for {self.sizes.tokens} tokens and cannot mix {grid.tokens}")

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        return torch.bmm(self.matrix.expand(x.shape[0], -1, -1), x)
