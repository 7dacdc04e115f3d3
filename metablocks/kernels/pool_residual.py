"""A pooling branch as one operation of torch: norm, pooling, LayerScale, drop path and residual.

`pool_twin` is what it computes, and has its gradients; on CUDA, and in Triton's interpreter, it runs on the kernel of
`pool_forward`, on everything else on the twin. Letters: B images, N = H W tokens, C width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from metablocks.core.mixer import Around, Statistics
from metablocks.kernels import pool_twin
from metablocks.kernels.choice import why_not

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
WIDEST = 7
"""The widest window of the kernel, which reads each of its places."""


def pool_residual(x: Tensor, around: Around, grid: tuple[int, int], window: int) -> tuple[Tensor, Statistics]:
    """Tokens (B, N, C) of a grid to the same shape, with their statistics, as `pool_twin.residual`."""
    given = around.weight, around.bias, around.scale, around.skip, around.kept
    out, _, (mean, inverse) = _residual(x, *given, [*grid, window], around.eps)
    return out, (mean, inverse)


@torch.library.custom_op("metablocks::pool_residual", mutates_args=())
def _residual(  # noqa: PLR0913  (an operation of torch takes tensors one by one)
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,  # cancels, and is taken so that it has a gradient
    scale: Tensor | None,
    skip: Tensor | None,
    kept: Tensor | None,
    sizes: list[int],
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    del bias
    height, width, window = sizes
    found = height, width, window
    if window <= WIDEST and x.dtype in DTYPES and not why_not(x.device):
        from metablocks.kernels import pool_forward  # brings in Triton

        given = (None if one is None else one.contiguous() for one in (scale, skip, kept))
        return pool_forward.residual(x.contiguous(), weight.contiguous(), *given, found, eps)
    out, before, after = pool_twin.residual(x, weight, scale, skip, kept, found, eps)
    return out.contiguous(), before, after


@_residual.register_fake
def _(x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    out = x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, weight.dtype))
    before, after = (x.new_empty(2, x.shape[0], dtype=torch.promote_types(x.dtype, torch.float32)) for _ in range(2))
    return out, before, after


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    """Of the size of a map, what goes in and what comes out, which what follows keeps as well."""
    ctx.save_for_backward(*inputs[:6], *output)
    ctx.sizes = inputs[6]


def _differentiate(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
    return *pool_twin.gradients(above, ctx.saved_tensors, tuple(ctx.sizes)), None, None  # type: ignore[arg-type]


_residual.register_autograd(_differentiate, setup_context=_keep)


@register_flop_formula(torch.ops.metablocks.pool_residual)
def _flops(*_: Any, **__: Any) -> int:
    """None by convention, like pooling and norms."""
    return 0


def elements(images: int, tokens: int, width: int) -> int:
    """Elements of maps that the kernel reads and writes; the second walk over an image reads it from L2."""
    return 2 * images * tokens * width
