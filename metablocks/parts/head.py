"""The classifier's head: norm over tokens, pooling, norm over the pooled vector, linear. (B, N, C) to (B, classes).

Representation layer, a linear layer with tanh before the last: Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from metablocks.core.settings import Settings, Size
from metablocks.parts.norm import NoNorm, Norm

Pool = Literal["mean", "class"]


class Head(Settings):
    label: ClassVar[str] = "head"

    norm: Norm = Field(NoNorm(), description="over the tokens of the last stage, before pooling")
    pool: Pool = Field("mean", description="mean is over the patches, class is the class token")
    pool_norm: Norm = Field(NoNorm(), description="over the pooled vector")
    representation: Size | None = Field(None, description="width of a layer with tanh before the last, or none")


class ClassifierHead(nn.Module):
    """Pools `tokens`: the patches, or the class token alone. Features are read between `norm` and the pooling."""

    def __init__(self, settings: Head, dim: int, classes: int, tokens: slice) -> None:
        super().__init__()
        self.tokens = tokens
        self.norm = settings.norm.build(dim)
        self.pool_norm = settings.pool_norm.build(dim)
        width = settings.representation
        self.representation = nn.Linear(dim, width) if width else None
        self.fc = nn.Linear(width or dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.norm(x)[:, self.tokens].mean(1, keepdim=True)  # one token, for norms over tokens
        pooled = self.pool_norm(pooled)
        if self.representation is not None:
            pooled = self.representation(pooled).tanh()
        return self.fc(pooled).squeeze(1)
