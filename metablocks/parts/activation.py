"""Activations by name. GELU is exact (Hendrycks & Gimpel 2016, arXiv:1606.08415); Google's code has the tanh form."""

from __future__ import annotations

from typing import Literal

from torch import nn

Activation = Literal["gelu", "gelu_tanh", "relu"]


def activation(name: Activation) -> nn.Module:
    """The module of an activation, elementwise over any shape."""
    if name == "relu":
        return nn.ReLU()
    return nn.GELU(approximate="tanh" if name == "gelu_tanh" else "none")
