"""A pooling branch on its Triton kernels: tiles, programs, and memory for what they write.

Imported where a kernel runs, because it brings in Triton. Letters as in `pool_twin`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from metablocks.kernels.choice import on_its_device
from metablocks.kernels.pool_backward import backward as backward_kernel
from metablocks.kernels.pool_forward import forward
from metablocks.kernels.pool_twin import Scales, Sizes

TOKENS, CHANNELS = 32, 64  # of a tile; so many channels in half precision are a line of the cache
OPTIONS = {"num_warps": 8, "maxnreg": 128}  # two programs a multiprocessor, without spills


@on_its_device
def residual(x: Tensor, weight: Tensor, scales: Scales, eps: float, sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    """As `pool_twin.residual`, of contiguous tensors."""
    out = torch.empty_like(x, dtype=torch.promote_types(x.dtype, weight.dtype))
    before, after = (x.new_empty(2, x.shape[0], dtype=torch.float32) for _ in range(2))
    given = (x, *_vectors(weight, scales), out, before, after)
    if x.shape[0]:
        forward[(x.shape[0],)](*given, *_lengths(x, sizes), eps, **fixed(x, scales, sizes), **OPTIONS)
    return out, before, after


@on_its_device
def backward(
    grad: Tensor, x: Tensor, weight: Tensor, scales: Scales, statistics: tuple[Tensor, Tensor], sizes: Sizes
) -> tuple[Tensor, Tensor, Tensor]:
    """As `pool_twin.backward`, of contiguous tensors."""
    made = torch.empty_like(x)
    shares = x.new_empty(x.shape[0], x.shape[2], dtype=torch.float32)
    passed = torch.empty_like(shares) if scales[1] is not None else shares.new_empty(0)
    given = (grad, x, *_vectors(weight, scales), *statistics, made, shares, passed)
    if x.shape[0]:
        backward_kernel[(x.shape[0],)](*given, *_lengths(x, sizes), **fixed(x, scales, sizes), **OPTIONS)
    return made, shares, passed


def fixed(x: Tensor, scales: Scales, sizes: Sizes) -> dict[str, Any]:
    """What a variant of the kernels is compiled for: the window, tiles of powers of two, and what is there."""
    _, tokens, channels = x.shape
    blocks = {"BLOCK_N": (tokens, TOKENS), "BLOCK_C": (channels, CHANNELS)}
    tiles = {name: min(triton.next_power_of_2(of), most) for name, (of, most) in blocks.items()}
    there = {name: one is not None for name, one in zip(("SCALED", "SKIPS", "DROPS"), scales, strict=True)}
    return {"WINDOW": sizes[2], **tiles, **there}


def _lengths(x: Tensor, sizes: Sizes) -> tuple[int, int, int, int]:
    return x.shape[0], sizes[0], sizes[1], x.shape[2]


def _vectors(weight: Tensor, scales: Scales) -> list[Tensor]:
    """The weight and the scales; no kernel follows the pointer for what is not there."""
    return [(weight if one is None else one).contiguous() for one in (weight, *scales)]
