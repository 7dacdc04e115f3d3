"""The readable twin of attention in one tile: the same numbers from plain PyTorch, and which sizes one tile holds.

Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1. Letters: B images, N tokens, H heads, D channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = (torch.bfloat16, torch.float16)  # of float32 a tile takes more registers than there are
LONGEST = 128
"""Tokens of the longest sequence, and channels of the widest head."""
LARGEST = 64 * 128
"""Elements of the largest tile of queries."""


def padded(size: int) -> int:
    """Rows or columns of a tile that holds so many: a power of two, which products of tiles need, and 16 at least."""
    return max(16, 1 << (size - 1).bit_length())


def fits(tokens: int, width: int, dtype: torch.dtype) -> bool:
    """Whether there are kernels for N and D."""
    rows, columns = padded(tokens), padded(width)
    return dtype in DTYPES and max(rows, columns) <= LONGEST and rows * columns <= LARGEST


def elements(images: int, tokens: int, width: int) -> tuple[int, int]:
    """Elements that the kernels of the forward and of the backward pass read and write, of heads of `width` together.

    q, k, v and the output once each; then q, k, v, and the gradients of the output and of these.
    """
    places = images * tokens * width
    return 4 * places, 7 * places


def attention(packed: Tensor, scale: float) -> Tensor:
    """softmax(scale q k^T) v: packed (B, N, 3, H, D), queries, keys and values, to (B, N, H D).

    On any device, in any dtype; arithmetic in fp32 at least.
    """
    query, key, value = _in_heads(packed)
    weights = (query @ key.mT * scale).softmax(-1)
    return (weights @ value).transpose(1, 2).flatten(2).to(packed.dtype)


def gradient(grad: Tensor, packed: Tensor, scale: float) -> Tensor:
    """Of packed, (B, N, 3, H, D), from that of the output."""
    query, key, value = _in_heads(packed)
    weights = (query @ key.mT * scale).softmax(-1)
    above = grad.unflatten(-1, packed.shape[3:]).transpose(1, 2).to(value.dtype)
    grad_weights = above @ value.mT
    grad_scores = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdim=True)) * scale
    made = torch.stack([grad_scores @ key, grad_scores.mT @ query, weights.mT @ above], 2)  # (B, H, 3, N, D)
    return made.permute(0, 3, 2, 1, 4).to(packed.dtype).contiguous()


def _in_heads(packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, each (B, H, N, D)."""
    wide = torch.promote_types(packed.dtype, torch.float32)
    query, key, value = packed.permute(2, 0, 3, 1, 4).to(wide).unbind(0)
    return query, key, value
