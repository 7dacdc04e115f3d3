"""Products of fp32 matrices on a CPU by oneDNN, where that is measured faster here than what torch takes.

torch gives such products to a BLAS. MKL leaves AVX-512 out on processors that are not Intel's, and oneDNN does not:
then it is more than twice as fast, and takes bias and GELU in. So a pass over each graph that inductor compiles,
forward and backward, exchanges the products in it. Nothing changes outside of compiled graphs.

Letters: M rows, K what is summed over, N columns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

GAIN = 1.2
"""How much faster oneDNN has to be: the two are either alike or far apart."""
SMALL = 1 << 20
"""Multiply-accumulates below which the time that oneDNN takes to start counts."""

aten = torch.ops.aten
VIEWS = (aten.reshape.default, aten.view.default)
_library = torch.library.Library("metablocks", "FRAGMENT")
_library.define("product(Tensor x, Tensor weight, Tensor? bias, str activation) -> Tensor")


def product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """x (M, K), weight (N, K) and bias (N) to (M, N), through the exact `gelu` or `none`."""
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")
    return made


_library.impl("product", product, "CPU")
_library.impl("product", lambda x, weight, *_: x.new_empty(x.shape[0], weight.shape[0]), "Meta")


def options() -> dict[str, Any]:
    """For inductor: the pass, where it pays."""
    return {"post_grad_custom_pre_pass": Exchange()} if pays() else {}


def runs() -> bool:
    """Whether torch has oneDNN here."""
    there = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    return bool(there) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def pays() -> bool:
    """Whether oneDNN is faster on this machine, in this process: some milliseconds of trials."""
    if not runs():
        return False
    with torch.no_grad():
        x, weight, bias = torch.rand(512, 192), torch.rand(256, 192), torch.rand(256)
        theirs, ours = (lambda: torch.addmm(bias, x, weight.t())), (lambda: product(x, weight, bias, "none"))
        times = [(_seconds(theirs), _seconds(ours)) for _ in range(8)]
    usual, found = (min(column) for column in zip(*times, strict=True))
    return usual > GAIN * found


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class Exchange(CustomGraphPass):
    """`aten.mm` and `aten.addmm` to `metablocks.product`, with the GELU that follows."""

    def __call__(self, graph: fx.Graph) -> None:
        for target in (aten.mm.default, aten.addmm.default):
            for node in graph.find_nodes(op="call_function", target=target):
                *bias, x, other = node.args
                if _fits(x, other, *bias) and not node.kwargs:
                    _exchange(graph, node, x, other, bias[0] if bias else None)

    def uuid(self) -> object:
        return get_hash_for_files((__file__,))


def _fits(x: fx.Node, other: fx.Node, *bias: fx.Node) -> bool:
    """Whether it is a product in fp32 on a CPU, not a small one, with a bias for each column if any."""
    values = [node.meta["val"] for node in (x, other, *bias)]
    if any(value.device.type != "cpu" or value.dtype != torch.float32 for value in values):
        return False
    (rows, inner), columns = values[0].shape, values[1].shape[1]
    if any(value.ndim != 1 or value.shape[0] != columns for value in values[2:]):
        return False
    sizes = rows, inner, columns
    return not all(isinstance(size, int) for size in sizes) or rows * inner * columns >= SMALL


def _exchange(graph: fx.Graph, node: fx.Node, x: fx.Node, other: fx.Node, bias: fx.Node | None) -> None:
    curve = _gelu_of(node)
    with graph.inserting_before(node):
        weight = graph.call_function(aten.permute.default, (other, (1, 0)))
        made = graph.call_function(torch.ops.metablocks.product.default, (x, weight, bias, "gelu" if curve else "none"))
    weight.meta["val"] = other.meta["val"].t()
    made.meta.update(node.meta)
    node.replace_all_uses_with(made)
    graph.erase_node(node)
    if curve is not None:
        curve[1].replace_all_uses_with(curve[0])
        graph.eliminate_dead_code()


def _gelu_of(node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """The value that alone goes into an exact GELU, the product or a view of it, and what comes out."""
    while len(node.users) == 1 and (user := next(iter(node.users))).target in VIEWS:
        node = user
    if len(node.users) != 2:
        return None
    # (0.5 x) (erf(x / sqrt 2) + 1), as inductor writes it
    by = {user.args[1]: user for user in node.users if user.target is aten.mul.Tensor and user.args[0] is node}
    half, erf = by.get(0.5), _only(by.get(0.7071067811865476), aten.erf.default)
    out = _only(_only(erf, aten.add.Tensor, 1), aten.mul.Tensor)
    return (node, out) if out is not None and half in out.args else None


def _only(node: fx.Node | None, target: object, *rest: object) -> fx.Node | None:
    """The only user of a node, if that is `target` with these other arguments; `rest` is left open where empty."""
    if node is None or len(node.users) != 1:
        return None
    user = next(iter(node.users))
    return user if user.target is target and (not rest or user.args == (node, *rest)) else None
