"""A linear layer after a norm by known statistics, as one product of the map as it is: nothing normed is stored.

With r one over the deviation and m the mean of an image, W' the weight of the layer times that of the norm:
r (W' x - m W' 1) + shift. Made for the compiler, which ends the product with all that follows it.
Letters: B batch, N tokens, C width, D outputs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metablocks.core.mixer import Statistics
from metablocks.parts.norm import TokenGroupNorm

Folded = tuple[Tensor, Tensor, Tensor]
"""W' (D, C); W' 1, and what is added in the end, (D) each, in fp32 at least."""


def folded(layer: nn.Linear, norm: TokenGroupNorm) -> Folded:
    """A layer with the norm before it: made of weights alone."""
    wide = torch.promote_types(layer.weight.dtype, torch.float32)
    given = layer.weight.to(wide)
    weight = (given * norm.weight).to(layer.weight.dtype)
    slope = weight.to(wide).sum(1)  # of what is multiplied with, as it is rounded, so that the mean cancels
    shift = torch.zeros_like(slope) if norm.bias is None else (given * norm.bias).sum(1)
    return weight, slope, shift if layer.bias is None else shift + layer.bias


def normed_linear(x: Tensor, known: Statistics, made: Folded) -> Tensor:
    """Tokens (B, N, C) to (B, N, D), from the statistics of x, (B) each, and what `folded` gives."""
    return _NormedLinear.apply(x, *known, *made)  # type: ignore[no-any-return, no-untyped-call]


class _NormedLinear(torch.autograd.Function):
    """Its own backward pass, so that the statistics cost it no look at a map of D channels."""

    @staticmethod
    def forward(  # type: ignore[override]  # noqa: PLR0913  (autograd takes tensors one by one)
        ctx: Any, x: Tensor, mean: Tensor, inverse: Tensor, weight: Tensor, slope: Tensor, shift: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, mean, inverse, weight, slope)
        turn = inverse[:, None, None]
        product = F.linear(x, weight)
        return (product * turn + (shift - turn * mean[:, None, None] * slope)).to(product.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """<grad, product> is <to_x, x>, and the mean meets sums of the gradient alone."""
        x, mean, inverse, weight, slope = ctx.saved_tensors
        above = (grad * inverse[:, None, None]).to(grad.dtype)
        to_x = above @ weight
        to_weight = above.flatten(0, 1).T @ x.flatten(0, 1)
        sums = above.sum(1, dtype=slope.dtype)  # (B, D)
        along = (sums * slope).sum(1)
        to_inverse = ((to_x.to(slope.dtype) * x).sum((1, 2)) - mean * along) / inverse
        return to_x, -along, to_inverse, to_weight, -(sums.T @ mean), sums.T @ (1 / inverse)
