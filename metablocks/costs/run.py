"""A module run once under an observer: what torch has a formula for is counted, what nobody has one for is named.

It runs in inference mode, where operations arrive whole, so that an attention is seen before it is taken apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from metablocks.costs.nouns import Cost
from metablocks.nets.parts import module
from metablocks.plan import Part, nouns

FREE = frozenset(
    # elementwise, norm, softmax, pooling, copies, views and index arithmetic are free by convention, in place or not;
    # resampling an image by weights that are fixed is pooling
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _conj _fused_sdp_choice _local_scalar_dense _log_softmax
    _native_batch_norm_legit _native_batch_norm_legit_no_training _prelu_kernel _reshape_alias _safe_softmax _softmax
    _to_copy _unsafe_index _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact2d abs
    adaptive_max_pool2d adaptive_max_pool3d add addcdiv addcmul alias all amax amin any arange argmax argmin argsort
    as_strided atan avg_pool2d avg_pool3d bernoulli bitwise_and bitwise_not bitwise_or bitwise_xor cat ceil
    channel_shuffle clamp clamp_max clamp_min clone col2im constant_pad_nd copy cos cudnn_batch_norm cumprod cumsum
    detach diag_embed diagonal div elu embedding empty empty_like empty_permuted empty_strided eq erf exp expand expm1
    eye fill flip floor floor_divide fmod full full_like gather ge gelu glu gt hardsigmoid hardswish hardtanh im2col
    index index_add index_copy index_put index_select isnan le leaky_relu lerp lift_fresh linalg_vector_norm linspace
    log log1p log2 log_sigmoid_forward logical_and logical_not logical_or logical_xor logsumexp lt masked_fill
    masked_scatter max max_pool2d_with_indices max_pool3d_with_indices maximum mean min minimum mish mul
    native_batch_norm native_dropout native_group_norm native_layer_norm ne neg new_empty new_full new_ones new_zeros
    nonzero normal ones ones_like permute pixel_shuffle pixel_unshuffle pow prod rand rand_like randint randn randn_like
    randperm reciprocal reflection_pad1d reflection_pad2d relu remainder repeat repeat_interleave replication_pad1d
    replication_pad2d reshape roll round rsqrt rsub scalar_tensor scatter scatter_add select select_scatter sigmoid sign
    silu sin slice slice_scatter softplus softshrink sort split split_with_sizes sqrt squeeze stack sub sum t tanh
    threshold topk transpose tril triu trunc unbind unfold uniform unsqueeze upsample_bicubic2d upsample_bilinear2d
    upsample_linear1d upsample_nearest1d upsample_nearest2d var var_mean view view_as_complex view_as_real where zero
    zeros zeros_like
    """.split()  # noqa: SIM905
)
_aten = torch.ops.aten
_MACS: Mapping[Any, Callable[..., int]] = {
    # what torch 2.13 has no formula for
    _aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: (
        sdpa_flop_count(q.shape, k.shape, v.shape) // 2
    ),
    _aten.mv: lambda matrix, _: matrix.numel(),
    _aten.addmv: lambda _, matrix, *__, **___: matrix.numel(),
    _aten.dot: lambda vector, _: vector.numel(),
    _aten.addbmm: lambda _, first, second, **__: first.numel() * second.shape[2],
}


def count_part(part: Part, images: int = 1) -> Cost:
    """Parameters, multiply-accumulates and activations of a part for one image, or for several at once."""
    with torch.device("meta"):
        net = module(part).to("meta").eval()
        inputs = [torch.empty(images, *shape) for shape in input_shapes(part)]
    return count_module(net, inputs)


def count_module(net: nn.Module, inputs: Sequence[Tensor]) -> Cost:
    """Parameters, multiply-accumulates and activations of a module in evaluation mode for inputs of batch 1.

    Meant for the meta device, where nothing is computed and torch fuses nothing that it has no formula for.
    """
    with torch.inference_mode(), plain_layers(), Observer() as seen:
        net(*inputs)
    macs, activations = (None, None) if seen.unknown else (seen.macs, seen.activations)
    return Cost(*parameters(net), macs, activations, tuple(sorted(seen.unknown)))


def parameters(net: nn.Module) -> tuple[int, int]:
    """How many parameters a module has, and how many of them are frozen."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in net.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if not trained)


@contextmanager
def plain_layers() -> Iterator[None]:
    """Keeps torch's own transformer layers from running as one operation, which would hide what they multiply."""
    mha = torch.backends.mha
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)


class Observer(TorchDispatchMode):
    """Adds up what is known, and names every operation that is neither counted nor free."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0
        self.activations = 0
        self.unknown: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operation = getattr(func, "_overloadpacket", func)
        counted = operation in _MACS or operation in flop_registry
        if not counted and not _free(operation):
            before = self.activations
            out = self._taken_apart(func, args, kwargs)
            if operation is _aten.scaled_dot_product_attention:
                self.activations = before + out.numel()  # on some devices its scores are a product of their own
            if out is not NotImplemented:
                return out
            self.unknown.add(_name(operation))
        out = func(*args, **kwargs)
        if counted:
            self.macs += _macs(operation, args, kwargs, out)
            self.activations += (out[0] if isinstance(out, tuple) else out).numel()
        return out

    def _taken_apart(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The output of an operation that torch makes of others, each of which is seen; else NotImplemented."""
        if not isinstance(func, torch._ops.OpOverload):
            return NotImplemented
        with self:
            return func.decompose(*args, **kwargs)


def _macs(operation: Any, args: Any, kwargs: Any, out: Any) -> int:
    if operation in _MACS:
        return _MACS[operation](*args, **kwargs)
    return int(flop_registry[operation](*args, **kwargs, out_val=out)) // 2


def _free(operation: Any) -> bool:
    room, _, name = _name(operation).partition("::")
    return room == "prim" or (room == "aten" and (name in FREE or name.removesuffix("_") in FREE))


def _name(operation: Any) -> str:
    """aten::mm for an operation of torch; an operation that takes functions has a name alone."""
    return str(getattr(operation, "_qualified_op_name", operation))


@singledispatch
def input_shapes(part: Any) -> list[tuple[int, ...]]:
    """The shapes of a part's inputs for one image, without the batch: tokens (N, C) unless said otherwise."""
    return [(part.grid.tokens, part.dim)]


@input_shapes.register
def _(part: nouns.StemPlan) -> list[tuple[int, ...]]:
    return [(part.channels, *part.image)]


@input_shapes.register
def _(part: nouns.EmbeddingPlan) -> list[tuple[int, ...]]:
    return [(part.grid.patches, part.dim)]


@input_shapes.register
def _(part: nouns.MaskPlan) -> list[tuple[int, ...]]:
    return [(1, part.dim), (1, 1)]


@input_shapes.register
def _(part: nouns.DownsamplePlan | nouns.LinearPlan) -> list[tuple[int, ...]]:
    return [(part.grid.tokens, part.dims[0])]
