"""Norms over tokens (B, N, C).

Layer norm is over C, group norm over N and the channels of a group, batch norm over B and N.

Layer norm: Ba et al. 2016, arXiv:1607.06450. Group norm: Wu & He 2018, arXiv:1803.08494; with one group it is the
"modified layer norm" of PoolFormer (arXiv:2111.11418, section 4.1). Batch norm: Ioffe & Szegedy 2015, arXiv:1502.03167.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from metablocks.core.mixer import Misfit, Statistics, near, remainder
from metablocks.core.settings import Choice, Positive, Size


class Norm(Choice, kind="norm"):
    def build(self, dim: int) -> nn.Module:
        """The module for tokens (B, N, dim)."""
        raise NotImplementedError

    def fit(self, dim: int) -> None:
        """Raises `Misfit` where the norm cannot be built at width `dim`."""


class LayerNorm(Norm, name="layer_norm"):
    eps: Positive = Field(default=1e-5, description="added to the variance")
    bias: bool = Field(default=True, description="whether a bias is learned beside the scale")

    def build(self, dim: int) -> nn.Module:
        return nn.LayerNorm(dim, eps=self.eps, bias=self.bias)


class GroupNorm(Norm, name="group_norm"):
    groups: Size = Field(default=1, description="number of channel groups; each is normalised over all tokens")
    eps: Positive = Field(default=1e-5, description="added to the variance")
    bias: bool = Field(default=True, description="whether a bias is learned beside the scale")

    def fit(self, dim: int) -> None:
        if dim % self.groups:
            wrong = f"{self.groups} groups do not divide the width {dim}"
            raise Misfit(
                wrong, remainder(dim, self.groups), "groups", near("groups", self.groups, dim), "divides every width"
            )

    def build(self, dim: int) -> nn.Module:
        return TokenGroupNorm(dim, self)


class BatchNorm(Norm, name="batch_norm"):
    affine: bool = Field(default=True, description="whether a scale and a bias are learned")
    eps: Positive = Field(default=1e-5, description="added to the variance")

    def build(self, dim: int) -> nn.Module:
        return TokenBatchNorm(dim, self)


class NoNorm(Norm, name="none"):
    """No norm."""

    def build(self, dim: int) -> nn.Module:  # noqa: ARG002
        return nn.Identity()


def by_token(norm: nn.Module) -> bool:
    """Whether a norm looks at each token alone, so that of some tokens it makes what it makes of them among all."""
    return isinstance(norm, nn.LayerNorm | nn.Identity)


class TokenGroupNorm(nn.Module):
    """Group norm of tokens: (B, N, C) to the same shape, statistics over N and the channels of a group."""

    bias: nn.Parameter | None

    def __init__(self, dim: int, settings: GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = settings.groups, settings.eps
        self.weight = nn.Parameter(torch.empty(dim))
        self.register_parameter("bias", nn.Parameter(torch.empty(dim)) if settings.bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale one, bias zero."""
        nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.groups > 1:
            normed = F.group_norm(x.transpose(1, 2), self.groups, self.weight, self.bias, self.eps)
            return normed.transpose(1, 2)
        # one group is a layer norm over N and C: free of copies
        normed = F.layer_norm(x, x.shape[1:], eps=self.eps)
        return normed * self.weight if self.bias is None else torch.addcmul(self.bias, normed, self.weight)

    def statistics(self, x: Tensor) -> Statistics:
        """For one group, of each image, in fp32 at least: of each token first, which is one walk of many threads."""
        variances, means = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), 2, correction=0)
        between, mean = torch.var_mean(means, 1, correction=0)
        return mean, (variances.mean(1) + between + self.eps).rsqrt()

    def by(self, x: Tensor, known: Statistics) -> Tensor:
        """The same for one group, whose statistics are known. All that its backward pass sums up are two vectors of an
        image: the mean has its gradient through a term that is zero."""
        mean, inverse = (one[:, None, None] for one in known)
        center = mean.detach()
        factor = inverse * self.weight
        offset = (center - mean) * factor
        normed = (x - center) * factor + (offset if self.bias is None else offset + self.bias)
        return normed.to(x.dtype)


class TokenBatchNorm(nn.Module):
    """Batch norm of tokens: (B, N, C) to the same shape, each channel by its mean and variance over B and N.

    In evaluation mode these are the running ones, which move by a tenth in each training step.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dim: int, settings: BatchNorm) -> None:
        super().__init__()
        self.eps = settings.eps
        self.register_parameter("weight", nn.Parameter(torch.empty(dim)) if settings.affine else None)
        self.register_parameter("bias", nn.Parameter(torch.empty(dim)) if settings.affine else None)
        self.register_buffer("running_mean", torch.zeros(dim, device="cpu"))
        self.register_buffer("running_var", torch.ones(dim, device="cpu"))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale one, bias zero."""
        if self.weight is not None and self.bias is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        running = self.running_mean, self.running_var
        rows = F.batch_norm(x.flatten(0, 1), *running, self.weight, self.bias, self.training, 0.1, self.eps)
        return rows.view_as(x)
