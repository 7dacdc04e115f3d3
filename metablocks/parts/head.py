"""The classifier's head: norm over tokens, pooling, norm over the pooled vector, linear. (B, N, C) to (B, classes)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from metablocks.core.settings import Settings
from metablocks.parts.norm import NoNorm, Norm

Pool = Literal["mean", "class"]


class Head(Settings):
    label: ClassVar[str] = "head"

    norm: Norm = Field(NoNorm(), description="over the tokens of the last stage, before pooling")
    pool: Pool = Field("mean", description="mean is over the patches, class is the class token")
    pool_norm: Norm = Field(NoNorm(), description="over the pooled vector")


class ClassifierHead(nn.Module):
    """Pools `tokens`: the patches, of any number, or the class token alone. Features are read before it."""

    def __init__(self, settings: Head, dim: int, classes: int, tokens: slice) -> None:
        super().__init__()
        self.tokens = tokens
        self.norm = settings.norm.build(dim)
        self.pool_norm = settings.pool_norm.build(dim)
        self.fc = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.norm(x)[:, self.tokens].mean(1, keepdim=True)  # one token, for norms over tokens
        return self.fc(self.pool_norm(pooled)).squeeze(1)
