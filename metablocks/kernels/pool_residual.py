"""A pooling branch as one operation of torch: norm, pooling, LayerScale, drop path and residual.

PoolFormer: Yu et al. 2022, arXiv:2111.11418, section 3.2. `pool_twin` is what it computes; on CUDA, and in Triton's
interpreter, it runs on the kernels of `pool_launch` where `pool_trial` finds that they pay, on everything else on the
twin. Letters as in `pool_twin`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from metablocks.core.mixer import Around, Statistics
from metablocks.kernels import pool_trial, pool_twin
from metablocks.kernels.choice import why_not
from metablocks.kernels.pool_twin import Sizes

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
WIDEST = 7
"""The widest window of the kernels, which read each of its places."""


def pool_residual(x: Tensor, around: Around, grid: tuple[int, int], window: int) -> tuple[Tensor, Statistics]:
    """Tokens (B, N, C) of a grid to the same shape, with their statistics, as `pool_twin.residual`."""
    norm, scales = (around.weight, around.bias), (around.scale, around.skip, around.kept)
    out, _, after = _residual(x, *norm, *scales, [*grid, window], around.eps)
    return out, (after[0], after[1])


@torch.library.custom_op("metablocks::pool_residual", mutates_args=())
def _residual(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,  # cancels: it is here to have a gradient
    scale: Tensor | None,
    skip: Tensor | None,
    kept: Tensor | None,
    sizes: Sequence[int],
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    del bias
    given = (x.contiguous(), weight, (scale, skip, kept), eps, _sizes(sizes))
    return pool_trial.run("residual", given) if _runs(given) else pool_twin.residual(*given)


@_residual.register_fake
def _(x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    out = x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, weight.dtype))
    before, after = (x.new_empty(2, x.shape[0], dtype=torch.promote_types(x.dtype, torch.float32)) for _ in range(2))
    return out, before, after


@torch.library.custom_op("metablocks::pool_residual_backward", mutates_args=())
def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    skip: Tensor | None,
    kept: Tensor | None,
    before: Tensor,
    grad_before: Tensor,
    sizes: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    scales, statistics = (scale, skip, kept), (before, grad_before.contiguous())
    given = (grad.contiguous(), x.contiguous(), weight, scales, statistics, _sizes(sizes))
    return pool_trial.run("backward", given) if _runs(given) else pool_twin.backward(*given)


@_backward.register_fake
def _(_: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    shares = rest[4].new_empty(x.shape[0], x.shape[2])
    return x.new_empty(x.shape), shares, shares.new_empty(0) if rest[2] is None else torch.empty_like(shares)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    """Of the size of a map, what goes in and what comes out, which what follows keeps as well."""
    ctx.save_for_backward(*inputs[:6], *output)
    ctx.sizes = inputs[6]


def _differentiate(ctx: Any, grad: Tensor, grad_before: Tensor, grad_after: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, scale, skip, kept, out, before, after = ctx.saved_tensors
    whole = grad + pool_twin.through_statistics(grad_after, out.to(after.dtype), after)
    given = (scale, skip, kept, before, grad_before)
    to_x, shares, passed = _backward(whole.to(grad.dtype), x, weight, *given, ctx.sizes)
    strength = before[1] if kept is None else before[1] * kept
    to_factor = (shares * strength[:, None]).sum(0)
    return (
        to_x,
        _like(weight, to_factor if scale is None else to_factor * scale),
        None if bias is None else torch.zeros_like(bias),
        _like(scale, to_factor * weight),
        _like(skip, passed.sum(0)),
        _like(kept, (shares * pool_twin.factor(weight, scale)).sum(1) * before[1]),
        None,
        None,
    )


_residual.register_autograd(_differentiate, setup_context=_keep)


@register_flop_formula(torch.ops.metablocks.pool_residual)
def _flops(*_: Any, **__: Any) -> int:
    """None by convention, like pooling and norms."""
    return 0


@register_flop_formula(torch.ops.metablocks.pool_residual_backward)
def _backward_flops(*_: Any, **__: Any) -> int:
    return 0


def elements(images: int, tokens: int, width: int) -> tuple[int, int]:
    """Elements of maps that the kernels of the forward and of the backward pass read and write.

    Each walks an image twice. The second walk is back from what was read last, out of L2 as far as that holds the
    images that are under way, and is not counted.
    """
    places = images * tokens * width
    return 2 * places, 3 * places


def _runs(given: pool_trial.Given) -> bool:
    """Whether there is a kernel for what is given, where it is."""
    window, maps = given[-1][2], [one for one in given if isinstance(one, Tensor) and one.dim() == 3]
    return window <= WIDEST and all(one.dtype in DTYPES for one in maps) and not why_not(maps[0].device)


def _sizes(sizes: Sequence[int]) -> Sizes:
    height, width, window = sizes
    return height, width, window


def _like(tensor: Tensor | None, grad: Tensor) -> Tensor | None:
    return None if tensor is None else grad.to(tensor.dtype)
