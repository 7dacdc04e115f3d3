"""One part on the meta device under two observers: torch's flop counter, and a list of what it does not know."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from metablocks.costs.nouns import Cost
from metablocks.nets.parts import module
from metablocks.plan import Part, nouns

FREE = frozenset(
    # elementwise, norm, softmax, pooling, copies, views and index arithmetic are free by convention
    """
    _log_softmax _native_batch_norm_legit _safe_softmax _softmax _to_copy _unsafe_view abs add addcmul alias amax amin
    any arange argsort as_strided avg_pool2d bernoulli bitwise_and bitwise_or cat clamp clamp_min clone constant_pad_nd
    copy_ cos cumsum detach div empty empty_like eq erf exp expand expm1 fill_ floor full full_like gather ge gelu gt
    index index_select le leaky_relu lift_fresh linalg_vector_norm log log1p log2 logical_and logical_not lt masked_fill
    max maximum mean min minimum mul native_dropout native_group_norm native_layer_norm ne neg new_zeros ones ones_like
    permute pow rand rand_like reciprocal relu repeat repeat_interleave reshape roll rsqrt rsub scalar_tensor scatter
    select sigmoid sign silu sin slice slice_scatter softplus sort split split_with_sizes sqrt squeeze stack sub sum t
    tanh topk transpose tril triu unbind unfold unsqueeze var var_mean view where zeros zeros_like
    """.split()  # noqa: SIM905
)


def count_part(part: Part) -> Cost:
    """Parameters and multiply-accumulates of a part for one image."""
    with torch.device("meta"):
        net = module(part).to("meta").eval()
        inputs = [torch.empty(1, *shape) for shape in input_shapes(part)]
    params = [(parameter.numel(), parameter.requires_grad) for parameter in net.parameters()]
    counter, others = FlopCounterMode(display=False), _Unknown()
    with torch.no_grad(), counter, others:
        net(*inputs)
    macs = None if others.names else counter.get_total_flops() // 2
    frozen = sum(size for size, trained in params if not trained)
    return Cost(sum(size for size, _ in params), frozen, macs, tuple(sorted(others.names)))


class _Unknown(TorchDispatchMode):
    """Names every operation that is neither counted nor free."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func._overloadpacket
        own = packet._qualified_op_name.partition("::")
        if packet not in flop_registry and not (own[0] == "aten" and own[2] in FREE) and own[0] != "prim":
            self.names.add(packet._qualified_op_name)
        return func(*args, **(kwargs or {}))


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
