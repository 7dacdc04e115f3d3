"""The branch of a narrow channel MLP as one operation of torch: norm, two layers, scales, drop path and residual.

`narrow_twin` is what it computes; on CUDA, and in Triton's interpreter, it runs on the kernels of `narrow_launch`. A
block comes to it where `branch_trial` has found them surely faster than what is compiled of its modules. Only x is kept
for the backward pass, which is two operations, so that neither of them reads more than it is counted with. Drop path is
drawn, and so has no gradient. Letters as in `narrow_twin`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import has_static_value
from torch.utils.flop_counter import register_flop_formula

from metablocks.core.tracing import exporting
from metablocks.kernels import narrow_twin
from metablocks.kernels.choice import why_not
from metablocks.kernels.narrow_twin import How, Known, Scales, Weights

HALF = (torch.bfloat16, torch.float16)


def narrow_mlp(x: Tensor, weights: Weights, scales: Scales, known: Known, how: How) -> Tensor:
    """Tokens (B, N, C) to the same shape, as `narrow_twin.branch`."""
    return _branch(x, *weights, *scales, *(known or (None, None)), *how)


def takes(x: Tensor, first: Tensor, second: Tensor) -> bool:
    """Whether this is for tokens and layers: of one dtype, of sizes that are numbers; not in an export."""
    traced = exporting() or torch.jit.is_tracing() or torch.is_autocast_enabled(x.device.type)  # type: ignore[attr-defined, no-untyped-call]
    sizes = all(has_static_value(size) for size in x.shape) and narrow_twin.fits(first.shape[1], first.shape[0])
    return sizes and not traced and x.dtype == first.dtype == second.dtype


def kernels_for(width: int, hidden: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether there are kernels; in single precision in the interpreter alone, for tests."""
    there = dtype in HALF or (dtype is torch.float32 and device.type == "cpu")
    return there and narrow_twin.fits(width, hidden) and not why_not(device)


@torch.library.custom_op("metablocks::narrow_mlp", mutates_args=())
def _branch(
    x: Tensor,
    first: Tensor,
    shift: Tensor | None,
    second: Tensor,
    factor: Tensor | None,
    offset: Tensor | None,
    skip: Tensor | None,
    kept: Tensor | None,
    mean: Tensor | None,
    inverse: Tensor | None,
    eps: float,
    gelu: bool,
) -> Tensor:
    weights = Weights(first, shift, second, factor, offset)
    return _path(x, first).branch(x.contiguous(), weights, (skip, kept), _known(mean, inverse), (eps, gelu))


@_branch.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("metablocks::narrow_mlp_tokens", mutates_args=())
def _tokens(
    grad: Tensor,
    x: Tensor,
    first: Tensor,
    shift: Tensor | None,
    second: Tensor,
    factor: Tensor | None,
    offset: Tensor | None,
    skip: Tensor | None,
    kept: Tensor | None,
    mean: Tensor | None,
    inverse: Tensor | None,
    eps: float,
    gelu: bool,
) -> tuple[Tensor, Tensor]:
    weights, known = Weights(first, shift, second, factor, offset), _known(mean, inverse)
    given = (grad.contiguous(), x.contiguous(), weights, (skip, kept), known, (eps, gelu))
    return _path(x, first).backward_tokens(*given)


@_tokens.register_fake
def _(_: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    along = (0,) if rest[7] is None else (2, x.shape[0], x.shape[1])
    return x.new_empty(x.shape), x.new_empty(along, dtype=wide)


@torch.library.custom_op("metablocks::narrow_mlp_weights", mutates_args=())
def _weights(
    grad: Tensor,
    x: Tensor,
    first: Tensor,
    shift: Tensor | None,
    second: Tensor,
    factor: Tensor | None,
    offset: Tensor | None,
    kept: Tensor | None,
    mean: Tensor | None,
    inverse: Tensor | None,
    eps: float,
    gelu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weights, known = Weights(first, shift, second, factor, offset), _known(mean, inverse)
    given = (grad.contiguous(), x.contiguous(), weights, kept, known, (eps, gelu))
    return _path(x, first).backward_weights(*given)


@_weights.register_fake
def _(_: Tensor, x: Tensor, first: Tensor, *__: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    hidden, width = first.shape
    wide = torch.promote_types(x.dtype, torch.float32)
    shapes = ((hidden, width), (hidden,), (width, hidden), (width,))
    to_first, to_shift, to_second, to_offset = (x.new_empty(shape, dtype=wide) for shape in shapes)
    return to_first, to_shift, to_second, to_offset


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  (called by name)
    ctx.save_for_backward(*inputs[:10])
    ctx.how = inputs[10:]


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, *weights, skip, kept, mean, inverse = ctx.saved_tensors
    to_x, along = _tokens(grad, x, *weights, skip, kept, mean, inverse, *ctx.how)
    to_mean, to_inverse = (None, None) if mean is None else along.sum(-1).unbind(0)
    of_weights: tuple[Tensor | None, ...] = (None,) * 5
    if any(ctx.needs_input_grad[1:6]):
        made = _weights(grad, x, *weights, kept, mean, inverse, *ctx.how)
        of_weights = tuple(map(_like, weights, _through_factor(Weights(*weights), made)))
    to_skip = None if skip is None else _like(skip, (grad.to(along.dtype) * x).sum((0, 1)))
    return to_x, *of_weights, to_skip, None, to_mean, to_inverse, None, None


def _through_factor(weights: Weights, made: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    """The gradients of all weights, where `made` has that of the second layer before its factor."""
    to_first, to_shift, shared, to_offset = made
    if weights.factor is None:
        return to_first, to_shift, shared, to_offset, to_offset
    each = (shared * weights.second).sum(1)
    to_factor = each.sum(0, keepdim=True) if weights.factor.numel() == 1 else each
    return to_first, to_shift, shared * weights.factor[:, None], to_factor, to_offset


def _like(tensor: Tensor | None, grad: Tensor) -> Tensor | None:
    return None if tensor is None else grad.to(tensor.dtype)


_branch.register_autograd(_differentiate, setup_context=_keep)


@register_flop_formula(torch.ops.metablocks.narrow_mlp)
def _flops(x: Any, first: Any, *_: Any, **__: Any) -> int:
    """Two products of matrices."""
    return 2 * _product(x, first)


@register_flop_formula(torch.ops.metablocks.narrow_mlp_tokens)
def _tokens_flops(_: Any, x: Any, first: Any, *__: Any, **___: Any) -> int:
    """Three: the hidden layer is computed again."""
    return 3 * _product(x, first)


@register_flop_formula(torch.ops.metablocks.narrow_mlp_weights)
def _weights_flops(_: Any, x: Any, first: Any, *__: Any, **___: Any) -> int:
    """Four: as well, and its gradient."""
    return 4 * _product(x, first)


def _product(x: Any, first: Any) -> int:
    return 2 * int(x[0] * x[1] * first[0] * first[1])


def _path(x: Tensor, first: Tensor) -> Any:
    """The kernels, or the twin: the functions have the same names."""
    if kernels_for(first.shape[1], first.shape[0], x.dtype, x.device):
        from metablocks.kernels import narrow_launch  # brings in Triton

        return narrow_launch
    return narrow_twin


def _known(mean: Tensor | None, inverse: Tensor | None) -> Known:
    return None if mean is None or inverse is None else (mean, inverse)
