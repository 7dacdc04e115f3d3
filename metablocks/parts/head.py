"""The classifier's head: norm over tokens, pooling, norm over the pooled vector, linear. (B, N, C) to (B, classes).

Before the last layer may stand a representation layer with tanh (Dosovitskiy et al. 2020, arXiv:2010.11929, section
3.1) or an MLP (Yu et al. 2022, arXiv:2210.13452, section 2).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from metablocks.core.settings import Rate, Settings, Size
from metablocks.parts.activation import Activation, activation
from metablocks.parts.mlp import Mlp
from metablocks.parts.norm import NoNorm, Norm

Pool = Literal["mean", "class"]


class HeadMlp(Mlp):
    """One hidden layer: the second layer of this MLP is the classifier itself."""

    label: ClassVar[str] = "mlp of the head"

    activation: Activation = Field("gelu", description="after the hidden layer")
    norm: Norm = Field(NoNorm(), description="after the activation")
    bias: bool = Field(True, description="whether the hidden layer has a bias")
    dropout: Rate = Field(0.0, description="rate after the norm")


class Head(Settings):
    label: ClassVar[str] = "head"

    norm: Norm = Field(NoNorm(), description="over the tokens of the last stage, before pooling")
    pool: Pool = Field("mean", description="mean is over the patches, class is the class token")
    pool_norm: Norm = Field(NoNorm(), description="over the pooled vector")
    representation: Size | None = Field(None, description="width of a layer with tanh before the last, or none")
    mlp: HeadMlp | None = Field(None, description="hidden layer between pool_norm and the classes, or none")

    def width(self, dim: int) -> int:
        """Width of what the MLP or the last layer takes, where tokens have `dim`."""
        return self.representation or dim


class ClassifierHead(nn.Module):
    """Pools `tokens`: the patches, of any number, or the class token alone. Features are those after `norm`."""

    few_calls = True

    def __init__(self, settings: Head, dim: int, classes: int, tokens: slice) -> None:
        super().__init__()
        self.tokens = tokens
        self.norm = settings.norm.build(dim)
        self.pool_norm = settings.pool_norm.build(dim)
        width = settings.width(dim)
        self.representation = nn.Linear(dim, width) if settings.representation else None
        self.mlp = HiddenLayer(width, settings.mlp) if settings.mlp else None
        self.fc = nn.Linear(width if self.mlp is None else self.mlp.fc1.out_features, classes)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.norm(x)[:, self.tokens].mean(1, keepdim=True)  # one token, for norms over tokens
        pooled = self.pool_norm(pooled)
        if self.representation is not None:
            pooled = self.representation(pooled).tanh()
        if self.mlp is not None:
            pooled = self.mlp(pooled)
        return self.fc(pooled).squeeze(1)


class HiddenLayer(nn.Module):
    """(B, 1, C) to (B, 1, hidden)."""

    def __init__(self, dim: int, settings: HeadMlp) -> None:
        super().__init__()
        hidden = settings.resolve(dim).hidden
        self.fc1 = nn.Linear(dim, hidden, bias=settings.bias)
        self.activation = activation(settings.activation)
        self.norm = settings.norm.build(hidden)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.norm(self.activation(self.fc1(x))))
