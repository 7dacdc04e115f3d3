"""Attention of short sequences, all scores of a head in one tile, as one operation of torch.

MAE's encoder sees 50 tokens of 197 (He et al. 2021, arXiv:2111.06377), CAFormer's last stage 49. On CUDA, and in
Triton's interpreter, it runs in half precision on the kernels of `tile_launch`, elsewhere on `tile_twin`. A network
comes to it where `attention`, which tries it beside those of torch, finds it the fastest. Letters as in `tile_twin`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula, sdpa_backward_flop_count, sdpa_flop_count

from metablocks.kernels import tile_twin
from metablocks.kernels.choice import why_not


def tile_attention(packed: Tensor, scale: float) -> Tensor:
    """Packed (B, N, 3, H, D), queries, keys and values, to (B, N, H D), as `tile_twin.attention`."""
    return _attention(packed, scale)


@torch.library.custom_op("metablocks::tile_attention", mutates_args=())
def _attention(packed: Tensor, scale: float) -> Tensor:
    if _runs(packed):
        from metablocks.kernels import tile_launch  # brings in Triton

        return tile_launch.attention(packed.contiguous(), scale)
    with torch.autocast(packed.device.type, enabled=False):
        return tile_twin.attention(packed, scale)


@_attention.register_fake
def _(packed: Tensor, _: float) -> Tensor:
    return packed.new_empty(packed.shape[0], packed.shape[1], packed.shape[3] * packed.shape[4])


@torch.library.custom_op("metablocks::tile_attention_backward", mutates_args=())
def _gradient(grad: Tensor, packed: Tensor, scale: float) -> Tensor:
    if _runs(packed):
        from metablocks.kernels import tile_launch

        return tile_launch.gradient(grad.contiguous(), packed.contiguous(), scale)
    with torch.autocast(packed.device.type, enabled=False):
        return tile_twin.gradient(grad, packed, scale)


@_gradient.register_fake
def _(_: Tensor, packed: Tensor, __: float) -> Tensor:
    return packed.new_empty(packed.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  (called by name)
    """The output is not kept: the weights are computed again from query and key."""
    packed, ctx.scale = inputs
    ctx.save_for_backward(packed)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return _gradient(grad, *ctx.saved_tensors, ctx.scale), None


_attention.register_autograd(_differentiate, setup_context=_keep)


@register_flop_formula(torch.ops.metablocks.tile_attention)
def _flops(packed: Any, *_: Any, **__: Any) -> int:
    """What torch counts for its own: two products of matrices."""
    return sdpa_flop_count(*3 * [_shape(packed)])


@register_flop_formula(torch.ops.metablocks.tile_attention_backward)
def _backward_flops(_: Any, packed: Any, *__: Any, **___: Any) -> int:
    """Five: the scores are computed again."""
    return sdpa_backward_flop_count(*4 * [_shape(packed)])


def _shape(packed: Any) -> tuple[int, int, int, int]:
    """(B, H, N, D)"""
    batch, tokens, _, heads, width = packed
    return batch, heads, tokens, width


def _runs(packed: Tensor) -> bool:
    """Whether there is a kernel for what is given, where it is."""
    return tile_twin.fits(packed.shape[1], packed.shape[4], packed.dtype) and not why_not(packed.device)
