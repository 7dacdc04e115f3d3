"""Attention in one tile on its Triton kernels: tiles, warps, and memory for what they write.

Imported where a kernel runs, because it brings in Triton. Letters as in `tile_twin`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metablocks.kernels.choice import on_its_device
from metablocks.kernels.tile_kernels import backward, forward
from metablocks.kernels.tile_twin import padded


@on_its_device
def attention(packed: Tensor, scale: float) -> Tensor:
    """As `tile_twin.attention`, of a contiguous tensor."""
    batch, tokens, _, heads, width = packed.shape
    out = packed.new_empty(batch, tokens, heads * width)
    if out.numel():
        forward[(batch * heads,)](packed, out, heads, scale, **fixed(tokens, width), **options(tokens))
    return out


@on_its_device
def gradient(grad: Tensor, packed: Tensor, scale: float) -> Tensor:
    """As `tile_twin.gradient`, of contiguous tensors."""
    batch, tokens, _, heads, width = packed.shape
    made = torch.empty_like(packed)
    if made.numel():
        backward[(batch * heads,)](grad, packed, made, heads, scale, **fixed(tokens, width), **options(tokens))
    return made


def fixed(tokens: int, width: int) -> dict[str, int]:
    """What a variant of the kernels is compiled for."""
    return {"N": tokens, "D": width, "BLOCK": padded(tokens), "BLOCK_D": padded(width)}


def options(tokens: int) -> dict[str, int]:
    """How they are compiled: a warp for each 16 rows, which is the height of a matrix instruction."""
    return {"num_warps": padded(tokens) // 16}
