"""The floor: elements of activations that a forward pass has to move, were every fusion made that is known to pay.

A network is run once on the meta device and its operations are gathered into kernels. A product with weights, a
convolution, a pooling, a layer norm and an attention, from the scores to the mean of the values, begin a kernel of
their own. Everything else joins the last kernel that makes one of its operands: residuals and reductions are epilogues.
What changes only where elements are (a partition, a roll, a pad, a gather) or each by itself (a bias, an activation, a
scale) costs nothing, and so do norms whose statistics are few numbers an image: group norm, batch norm. Each kernel
reads each value that another one made once, and writes what another one reads.

Weights are not counted, nor is what would be saved by keeping the inside of an MLP or of a block on the chip: a kernel
that spans two products goes below this floor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from metablocks.costs.run import plain_layers
from metablocks.nets import assemble
from metablocks.plan import Plan

_SAME = frozenset(  # what changes where the elements of a value are, and which of them, but not what they are
    """
    _reshape_alias _to_copy _unsafe_view alias as_strided batch_norm broadcast_to chunk clone constant_pad_nd contiguous
    copy detach diagonal dropout expand expand_as feature_dropout flatten flip gather group_norm index index_select
    instance_norm lift_fresh movedim narrow native_batch_norm native_group_norm pad permute pixel_shuffle
    pixel_unshuffle repeat repeat_interleave reshape reshape_as roll select slice split split_with_sizes squeeze
    swapaxes t take_along_dim tile to transpose type_as unbind unflatten unfold unsqueeze view view_as
    """.split()  # noqa: SIM905
)
_PRODUCTS = frozenset("matmul mm bmm einsum baddbmm addmm linear mv addmv dot tensordot".split())  # noqa: SIM905
_ALONE = ("conv", "avg_pool", "max_pool", "layer_norm", "native_layer_norm", "rms_norm", "scaled_dot", "_scaled_dot")


@dataclass(eq=False)
class _Kernel:
    attends: bool = False
    read: dict[_Value, dict[int, int]] = field(default_factory=dict)
    """Elements by tensor, of every value that is read: several tensors may be parts of one value."""


@dataclass(eq=False)
class _Value:
    elements: int
    maker: _Kernel | None
    order: int
    """Of its kernel; -1 of an input of the network."""
    wanted: dict[int, int] = field(default_factory=dict)
    """Elements by tensor, of what other kernels read."""

    def of(self, parts: dict[int, int]) -> int:
        return min(self.elements, sum(parts.values()))


def floor(plan: Plan) -> int:
    """The floor of a plan in elements an image."""
    stem = plan.encoder.stem
    shapes: list[tuple[int, ...]] = [(stem.channels, *stem.image)]
    if plan.decoder:
        units = plan.decoder.mask.units
        shapes.append((units[0] * units[1],))
    with torch.device("meta"):
        return floor_of(assemble(plan).to("meta"), [torch.empty(1, *shape) for shape in shapes])


def floor_of(net: nn.Module, inputs: Sequence[Tensor]) -> int:
    """The floor of a module in evaluation mode, for inputs of batch 1; both are on the meta device."""
    seen = _Gatherer(inputs)
    with torch.inference_mode(), plain_layers(), seen:
        output = net.eval()(*inputs)
    return seen.moved(one for one in tree_iter(output) if isinstance(one, Tensor))


class _Gatherer(TorchDispatchMode):
    """Gathers operations into kernels as they pass. What does not come from an input of the network is a weight."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: list[_Kernel] = []
        self._values: dict[int, _Value] = {}
        self._alive: list[Tensor] = []  # so that no two tensors have one id
        for one in inputs:
            self._is(one, _Value(one.numel(), None, -1))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        operands = [one for one in tree_iter((args, kwargs)) if id(one) in self._values]
        results = [one for one in tree_iter(out) if isinstance(one, Tensor)]
        if operands and results:
            self._place(_name(func, args), operands, results)
        return out

    def _place(self, name: str, operands: Sequence[Tensor], results: Sequence[Tensor]) -> None:
        roots = list(dict.fromkeys(self._values[id(one)] for one in operands))
        if name in _SAME or (len(roots) == 1 and not _begins(name) and _as_large(results, operands)):
            for one in results:
                self._is(one, roots[0])
            return
        kernel = self._kernel(name, operands, roots)
        order = self.kernels.index(kernel)
        for one in operands:
            root = self._values[id(one)]
            if root.maker is not kernel:
                kernel.read.setdefault(root, {})[id(one)] = one.numel()
                root.wanted[id(one)] = one.numel()
        for one in results:
            self._is(one, _Value(one.numel(), kernel, order))

    def _kernel(self, name: str, operands: Sequence[Tensor], roots: Sequence[_Value]) -> _Kernel:
        """The kernel that an operation belongs to: a new one, or that of its operands that comes last."""
        last = max(roots, key=lambda root: root.order)
        attends = name in _PRODUCTS and len(operands) > 1  # of two activations, so no weights
        joins = last.maker is not None and (last.maker.attends if attends else not _begins(name))
        if joins and last.maker is not None:
            return last.maker
        self.kernels.append(_Kernel(attends))
        return self.kernels[-1]

    def _is(self, tensor: Tensor, value: _Value) -> None:
        self._values[id(tensor)] = value
        self._alive.append(tensor)

    def moved(self, outputs: Iterable[Tensor]) -> int:
        """Elements read and written by all kernels, with the outputs of the network."""
        for one in outputs:
            value = self._values.get(id(one))
            if value is not None:
                value.wanted[id(one)] = one.numel()
        made = {value for value in self._values.values() if value.maker is not None}
        read = sum(value.of(parts) for kernel in self.kernels for value, parts in kernel.read.items())
        return read + sum(value.of(value.wanted) for value in made)


def _as_large(results: Sequence[Tensor], operands: Sequence[Tensor]) -> bool:
    """Whether each element of the results is made of one of the operands, so that who reads them can make them."""
    return sum(one.numel() for one in results) == sum(one.numel() for one in operands)


def _begins(name: str) -> bool:
    """Whether an operation of one activation begins a kernel. So does everything that is not torch's own."""
    return name in _PRODUCTS or "::" in name or name.startswith(_ALONE)


def _name(func: Any, args: Sequence[Any]) -> str:
    """linear for an operation of torch, in place or not; room::name for another."""
    room, _, name = str(func._schema.name).partition("::")
    if name == "layer_norm" and len(args[1]) > 1:
        return "group_norm"  # over all tokens: one mean and one variance an image
    return name.removesuffix("_") if room in ("aten", "prim", "prims") else f"{room}::{name}"
