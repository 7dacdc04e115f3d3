"""Activations by name. GELU is exact (Hendrycks & Gimpel 2016, arXiv:1606.08415); Google's code has the tanh form.

Squared ReLU: So et al. 2021, arXiv:2109.08668. StarReLU: Yu et al. 2022, arXiv:2210.13452, section 2.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["gelu", "gelu_tanh", "relu", "squared_relu", "star_relu"]


def activation(name: Activation) -> nn.Module:
    """The module of an activation, elementwise over any shape."""
    if name == "relu":
        return nn.ReLU()
    if name == "squared_relu":
        return SquaredReLU()
    if name == "star_relu":
        return StarReLU()
    return nn.GELU(approximate="tanh" if name == "gelu_tanh" else "none")


class SquaredReLU(nn.Module):
    """relu(x) squared."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


class StarReLU(nn.Module):
    """scale * relu(x)^2 + bias, with one learned scale and bias for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(1))
        self.bias = nn.Parameter(torch.empty(1))

    def reset_parameters(self) -> None:
        """Squared ReLU at the start, as in the original; the paper's own constants would give mean 0 and variance 1."""
        nn.init.ones_(self.scale)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.relu(x).square() + self.bias


def kernel_takes(module: nn.Module) -> bool:
    """Whether it is exact GELU, or ReLU squared with one scale and one bias, which are those of the next layer."""
    if type(module) is nn.GELU:
        return module.approximate == "none"
    return type(module) in (SquaredReLU, StarReLU)


def behind(module: nn.Module, weight: Tensor, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """What a layer, with `weight` (C, hidden), has its output times, (1), and adds to that, (C), where of an activation
    that the kernel takes it is given GELU or ReLU squared alone."""
    if not isinstance(module, StarReLU):
        return None, bias
    offset = module.bias * weight.sum(1, dtype=torch.promote_types(weight.dtype, torch.float32))
    return module.scale, offset if bias is None else offset + bias
