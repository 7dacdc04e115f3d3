"""The readable twin of the fused channel-MLP branch, forwards and backwards: plain PyTorch, any device, any dtype.

Vaswani et al. 2017, arXiv:1706.03762, section 3.3, on a residual branch. What is linear is folded into weights before:
scale and bias of the norm into the first layer, LayerScale and the numbers of StarReLU behind the second.
Letters: B images, N tokens, C width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

WIDEST = 128
"""Channels of the widest tokens of which a tile stays on the chip beside its slice of the hidden layer."""


class Weights(NamedTuple):
    """factor (second act(first y + shift)) + offset. The layers are of the dtype of the tokens; what is not there is 1
    or 0, which nobody has to make."""

    first: Tensor
    """(hidden, C)"""
    shift: Tensor | None
    """(hidden)"""
    second: Tensor
    """(C, hidden)"""
    factor: Tensor | None
    """(C), or one number, (1)"""
    offset: Tensor | None
    """(C)"""


Scales = tuple[Tensor | None, Tensor | None]
"""`skip`, (C), of the tokens, and `kept`, (B), of the branch of each image: what is not there is 1."""
Known = tuple[Tensor, Tensor] | None
"""Mean and one over the deviation of each image, (B); None where each token has its own."""
How = tuple[float, bool]
"""eps of the norm, and whether the activation is exact GELU, or ReLU squared."""


def fits(width: int, hidden: int) -> bool:
    """Whether there are kernels for such layers."""
    return width <= WIDEST and width % 8 == 0 and hidden % 32 == 0


def elements(images: int, tokens: int, width: int) -> tuple[int, int]:
    """Elements of maps that the kernels of the forward and of the backward pass read and write.

    Tokens and what comes out; then, for the gradient of tokens, these, the gradient and what comes out, and for those
    of the weights the first two again. Programs beside each other read the same, which counts once; two numbers a token
    for known statistics do not.
    """
    places = images * tokens * width
    return 2 * places, 3 * places + 2 * places


def branch(x: Tensor, weights: Weights, scales: Scales, known: Known, how: How) -> Tensor:
    """skip x + kept mlp(norm(x)), (B, N, C) both ways; arithmetic in fp32 at least."""
    skip, kept = scales
    first, shift, second, factor, offset = _widened(weights, _wide(x))
    normed, _ = standard(x, known, how[0])
    made = activated(normed @ first.T + shift, how[1]) @ second.T * factor + offset
    made = made if kept is None else made * kept[:, None, None]
    return (made + (x if skip is None else x * skip)).to(x.dtype)


def backward_tokens(
    grad: Tensor, x: Tensor, weights: Weights, scales: Scales, known: Known, how: How
) -> tuple[Tensor, Tensor]:
    """The gradient of x, (B, N, C); where statistics are known, of each token what it adds to theirs, (2, B, N)."""
    grad = grad.to(_wide(x))
    normed, inverse = standard(x, known, how[0])
    to_hidden, _ = _to_hidden(grad, normed, weights, scales[1], how[1])
    made = to_hidden @ weights.first.to(_wide(x))
    skipped = grad if scales[0] is None else grad * scales[0]
    summed, turned = made.sum(-1, keepdim=True), (made * normed).sum(-1, keepdim=True)
    if known is None:
        made = made - (summed + normed * turned) / x.shape[-1]
        along = made.new_empty(0)
    else:
        along = torch.stack([-summed * inverse, turned / inverse]).squeeze(-1)
    return (made * inverse + skipped).to(x.dtype).contiguous(), along


def backward_weights(
    grad: Tensor, x: Tensor, weights: Weights, kept: Tensor | None, known: Known, how: How
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of the first layer, (hidden, C), of its shift, of the second, (C, hidden), before its factor, and
    of the offset; in fp32 at least."""
    grad = grad.to(_wide(x))
    normed, _ = standard(x, known, how[0])
    to_hidden, active = _to_hidden(grad, normed, weights, kept, how[1])
    passed = (grad if kept is None else grad * kept[:, None, None]).flatten(0, 1)
    to_hidden, active = to_hidden.flatten(0, 1), active.flatten(0, 1)
    return to_hidden.T @ normed.flatten(0, 1), to_hidden.sum(0), passed.T @ active, passed.sum(0)


def standard(x: Tensor, known: Known, eps: float) -> tuple[Tensor, Tensor]:
    """Tokens (B, N, C) less their mean over their deviation, and one over that, (B, 1 or N, 1)."""
    centre = x.to(_wide(x))
    if known is not None:
        mean, inverse = (one[:, None, None] for one in known)
        return (centre - mean) * inverse, inverse
    centre = centre - centre.mean(-1, keepdim=True)
    inverse = (centre.square().mean(-1, keepdim=True) + eps).rsqrt()
    return centre * inverse, inverse


def activated(hidden: Tensor, gelu: bool) -> Tensor:
    """Exact GELU, or ReLU squared."""
    return torch.nn.functional.gelu(hidden) if gelu else hidden.relu().square()


def _to_hidden(
    grad: Tensor, normed: Tensor, weights: Weights, kept: Tensor | None, gelu: bool
) -> tuple[Tensor, Tensor]:
    """The gradient of the hidden layer, and that layer after its activation, (B, N, hidden) each."""
    first, shift, second, factor, _ = _widened(weights, normed.dtype)
    hidden = normed @ first.T + shift
    if gelu:
        slope = 0.5 + 0.5 * (hidden * 0.5**0.5).erf() + hidden * (-0.5 * hidden.square()).exp() * 0.3989422804014327
    else:
        slope = 2 * hidden.relu()
    above = grad * factor if kept is None else grad * factor * kept[:, None, None]
    return above @ second * slope, activated(hidden, gelu)


def _widened(weights: Weights, wide: torch.dtype) -> list[Tensor]:
    """All of them, in a dtype."""
    fixed = (None, 0.0, None, 1.0, 0.0)
    return [
        torch.full((1,), value or 0.0, dtype=wide, device=weights.first.device) if one is None else one.to(wide)
        for one, value in zip(weights, fixed, strict=True)
    ]


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
