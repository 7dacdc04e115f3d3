"""The second counter: fvcore's, from a trace of the module on real tensors and the shapes in it.

It shares with the first one the list of what is free and nothing else: operations are seen before torch takes them
apart, and the formulas are fvcore's, or for what fvcore lacks those below. Letters: L queries, S keys, E and V widths.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from metablocks.core.errors import Fault, MissingError
from metablocks.costs.nouns import Cost
from metablocks.costs.run import FREE, parameters, plain_layers

Handle = Callable[[list[Any], list[Any]], Any]

# free operations that the first counter never sees whole
WHOLE = frozenset(
    """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d avg_pool1d batch_norm chunk contiguous dropout expand_as
    feature_dropout flatten group_norm instance_norm layer_norm log_sigmoid log_softmax max_pool1d max_pool2d movedim
    narrow one_hot pad prelu real relu6 reshape_as rms_norm selu softmax square std tile type_as unflatten view_as
    """.split()  # noqa: SIM905
)


def count_again(net: nn.Module, inputs: Sequence[Tensor]) -> Cost:
    """Parameters, multiply-accumulates and activations of a module in evaluation mode for CPU inputs of batch 1.

    Raises `MissingError` without fvcore.
    """
    analysis = _analysis(net, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with torch.no_grad(), plain_layers():
        found = analysis.by_operator()
    unknown = {name for name in analysis.unsupported_ops() if not _free(name)}
    unknown |= {name for name in found if "::" in name}
    macs, activations = (None, None) if unknown else (int(found["macs"]), int(found["activations"]))
    return Cost(*parameters(net), macs, activations, tuple(sorted(unknown)))


def _analysis(net: nn.Module, inputs: Sequence[Tensor]) -> Any:
    """fvcore's analysis of a module with the handles of this file."""
    try:
        with warnings.catch_warnings():
            # its losses, which nobody asked for, are TorchScript, of which torch warns: from 2.14 on every user
            for category in (DeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", category)
            from fvcore.nn import jit_analysis, jit_handles
    except ImportError as error:
        wrong = "the second counter is fvcore, which is not installed"
        raise MissingError(Fault(wrong, help="pip install fvcore")) from error
    handles = {
        "aten::_convolution": jit_handles.conv_flop_jit,
        "aten::linear": jit_handles.linear_flop_jit,
        "aten::addmm": jit_handles.addmm_flop_jit,
        "aten::mm": jit_handles.matmul_flop_jit,
        "aten::bmm": jit_handles.bmm_flop_jit,
        # fvcore's own takes no vectors, and a first matrix that is broadcast over a batch for one
        "aten::matmul": _product(0),
        "aten::mv": _product(0),
        "aten::dot": _product(0),
        "aten::addmv": _product(1),
        "aten::baddbmm": _product(1),
        "aten::scaled_dot_product_attention": _attention,
    }
    analysis = jit_analysis.JitModelAnalysis(net, tuple(inputs))
    # fvcore reads einsum from text that is rounded to four digits
    analysis.set_op_handle("aten::einsum", _einsum)
    return analysis.set_op_handle(**{name: _with_activations(handle) for name, handle in handles.items()})


def _with_activations(handle: Handle) -> Handle:
    def both(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        macs = handle(inputs, outputs)
        macs = sum(macs.values()) if isinstance(macs, Counter) else macs
        return Counter(macs=macs, activations=prod(_shape(outputs[0])))

    return both


def _product(first: int) -> Handle:
    """A matrix product whose first operand is input `first`: each element of the output sums over its last axis."""
    return lambda inputs, outputs: prod(_shape(outputs[0])) * _shape(inputs[first])[-1]


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Queries (..., L, E), keys (..., S, E) and values (..., S, V): scores, and the mean of the values."""
    values = _shape(inputs[2])
    return prod(_shape(outputs[0])[:-1]) * values[-2] * (_shape(inputs[0])[-1] + values[-1])


def _einsum(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Two operands as one batched product; of more, the count would depend on the order in which torch takes them."""
    operands, arrow, out = inputs[0].toIValue().replace(" ", "").partition("->")
    first, *others = operands.split(",")
    if not arrow or "." in operands or len(others) > 1:
        return Counter({"aten::einsum": 1})
    second = "".join(others)
    shapes = [size for operand in inputs[1].node().inputs() for size in _shape(operand)]
    sizes = dict(zip(first + second, shapes, strict=True))
    shared = {*first} & {*second}
    if shared <= {*out}:
        return Counter()  # nothing is summed over both: elementwise
    # what one operand has alone and the output has not is summed before, which is free
    return Counter(macs=prod(sizes[axis] for axis in shared | {*out}), activations=prod(_shape(outputs[0])))


def _shape(value: Any) -> list[int]:
    """The shape of a tensor in the trace."""
    return list(value.type().sizes())


def _free(name: str) -> bool:
    room, _, operation = name.partition("::")
    return room == "aten" and bool({operation, operation.removesuffix("_")} & (FREE | WHOLE))
