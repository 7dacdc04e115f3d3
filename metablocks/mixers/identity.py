"""No mixing at all. IdentityFormer: Yu et al. 2022, arXiv:2210.13452, section 2.

Tokens (B, N, C) to the same tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from metablocks.core.grid import Grid
from metablocks.core.mixer import Mixer, MixerSettings


@dataclass(frozen=True)
class Sizes:
    """Nothing to size."""


class Settings(MixerSettings):
    """No keys."""

    def resolve(self, dim: int, grid: Grid) -> Sizes:
        return Sizes()


class Identity(Mixer):
    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        return x
