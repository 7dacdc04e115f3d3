"""Window attention as one operation of torch, on packed tokens that nobody rolled, partitioned or copied.

Swin: Liu et al. 2021, arXiv:2103.14030, section 3.2; with a temperature Swin V2: arXiv:2111.09883, section 3.3.
`window_twin` is what it computes; on CUDA, and in Triton's interpreter, it runs on the kernels of `window_launch` where
`window_trial` finds that they pay, on everything else on the twin. Letters: B batch, N = H W tokens, C width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from metablocks.kernels import window_trial
from metablocks.kernels.choice import why_not
from metablocks.kernels.window_layout import Windows, fits, macs


def window_attention(
    qkv: Tensor,
    table: Tensor,
    windows: Windows,
    scale: float = 1.0,
    fill: Tensor | None = None,
    temperature: Tensor | None = None,
) -> Tensor:
    """qkv (B, N, 3C) to (B, N, C), as `window_twin.attention`, which says what the others are."""
    return _attention(qkv, table, fill, temperature, windows.packed(), scale)


@torch.library.custom_op("metablocks::window_attention", mutates_args=())
def _attention(
    qkv: Tensor,
    table: Tensor,
    fill: Tensor | None,
    temperature: Tensor | None,
    windows: Sequence[int],
    scale: float,
) -> Tensor:
    given = (*_contiguous(qkv, table, fill, temperature), Windows.unpacked(windows), scale)
    with torch.autocast(qkv.device.type, enabled=False):  # the twin sums in fp32, as the kernel does
        return window_trial.attention(given) if _runs(given) else window_trial.twin_attention(given).contiguous()


@_attention.register_fake
def _(qkv: Tensor, *_: Any) -> Tensor:
    return qkv.new_empty(qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3)


@torch.library.custom_op("metablocks::window_attention_backward", mutates_args=())
def _gradients(
    grad: Tensor,
    qkv: Tensor,
    table: Tensor,
    fill: Tensor | None,
    temperature: Tensor | None,
    windows: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    given = (*_contiguous(qkv, table, fill, temperature), Windows.unpacked(windows), scale)
    with torch.autocast(qkv.device.type, enabled=False):
        if _runs(given):
            return window_trial.gradients(grad.contiguous(), given)
        return window_trial.twin_gradients(grad, given)


@_gradients.register_fake
def _(_: Tensor, qkv: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    table, fill, temperature = rest[:3]
    made = [qkv.new_empty(0) if one is None else torch.empty_like(one) for one in (qkv, table, fill, temperature)]
    return made[0], made[1], made[2], made[3]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  (called by name)
    """The output is not kept: the weights are computed again from query and key."""
    ctx.save_for_backward(*inputs[:4])
    ctx.windows, ctx.scale = inputs[4:]


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    given = ctx.saved_tensors
    made = _gradients(grad, *given, ctx.windows, ctx.scale)
    return *(None if one is None else gradient for one, gradient in zip(given, made, strict=True)), None, None


_attention.register_autograd(_differentiate, setup_context=_keep)


@register_flop_formula(torch.ops.metablocks.window_attention)
def _flops(qkv: Any, *rest: Any, **_: Any) -> int:
    """By the convention of torch: two for each multiply-accumulate of a product of matrices."""
    return 2 * macs(Windows.unpacked(rest[3]), qkv[0], qkv[2] // 3)


@register_flop_formula(torch.ops.metablocks.window_attention_backward)
def _backward_flops(_: Any, *forward: Any, **__: Any) -> int:
    """Five products where the forward pass has two: the scores are computed again."""
    return _flops(*forward) * 5 // 2


def _runs(given: window_trial.Given) -> bool:
    """Whether there is a kernel for what is given, where it is."""
    qkv, windows = given[0], given[4]
    return fits(windows, qkv.dtype, qkv.shape[2] // 3 // windows.heads) and not why_not(qkv.device)


def _contiguous(*tensors: Tensor | None) -> tuple[Any, Any, Any, Any]:
    qkv, table, fill, temperature = [None if tensor is None else tensor.contiguous() for tensor in tensors]
    return qkv, table, fill, temperature
