"""Products of fp32 matrices on a CPU by oneDNN, where that is measured faster here than what torch takes.

torch gives such products to a BLAS. MKL leaves AVX-512 out on processors that are not Intel's, and oneDNN does not:
then it is more than twice as fast, and takes bias and GELU in. So a pass over each graph that inductor compiles,
forward and backward, exchanges the products in it. Nothing changes outside of compiled graphs.

Letters: M rows, K what is summed over, N columns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

from metablocks.kernels import cpu_weights, trial

GAIN = 1.2
"""How much faster oneDNN has to be: the two are either alike or far apart."""
SMALL = 1 << 20
"""Multiply-accumulates below which the time that oneDNN takes to start counts."""
ROWS = 1024
"""Rows below which a product gains less by a kept copy of its weight than the mark of the weight takes."""
BLOCK = 16
"""Rows and columns of a weight below which its blocks are mostly padding."""
TRAINED = ("primals", "tangents")
"""How AOTAutograd calls what goes into a graph that it has differentiated: its weights change from call to call."""

aten = torch.ops.aten
VIEWS = (aten.reshape.default, aten.view.default)
_library = torch.library.Library("metablocks", "FRAGMENT")
_library.define("product(Tensor x, Tensor weight, Tensor? bias, str activation, Tensor? mark) -> Tensor")


def product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str, mark: Tensor | None) -> Tensor:
    """x (M, K), weight (N, K) and bias (N) to (M, N), through the exact `gelu` or `none`. With its mark a weight is
    copied in oneDNN's order from the second meeting on, and the copy kept."""
    given = weight if mark is None else cpu_weights.copies.of(weight, mark)
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, given, bias, activation, [], "none")
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
        x, weight, bias = torch.ones(512, 192), torch.ones(256, 192), torch.ones(256)  # leaves seeds alone
        theirs, ours = (lambda: torch.addmm(bias, x, weight.t())), (lambda: product(x, weight, bias, "none", None))
        times = [(_seconds(theirs), _seconds(ours)) for _ in range(8)]
    usual, found = (min(column) for column in zip(*times, strict=True))
    faster = usual > GAIN * found
    verdict = trial.Verdict("oneDNN" if faster else "BLAS", seconds={"BLAS": usual, "oneDNN": found})
    trial.note("products, torch.float32", verdict, x.device)
    return faster


def _seconds(call: Callable[[], object]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


class Exchange(CustomGraphPass):
    """Products with a matrix, from the right or from the left, to `metablocks.product`, with the GELU that follows."""

    def __call__(self, graph: fx.Graph) -> None:
        trains = any(node.name.startswith(TRAINED) for node in graph.find_nodes(op="placeholder"))
        for target, find in FORMS.items():
            for node in graph.find_nodes(op="call_function", target=target):
                found = None if node.kwargs else find(graph, node)
                if found is not None:
                    _exchange(graph, node, found, trains)

    def uuid(self) -> object:
        return get_hash_for_files((__file__, cpu_weights.__file__))


@dataclass(frozen=True)
class Form:
    """Nodes of rows (M, K), of a weight (N, K) and of a bias (N), and how the node that they stand for sees (M, N)."""

    rows: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    view: Callable[[fx.Node], fx.Node]


def _from_right(graph: fx.Graph, node: fx.Node) -> Form | None:
    """x @ other + bias, where that is a product in fp32 on a CPU, not a small one, with a bias for each column."""
    given: tuple[Any, ...] = node.args
    *bias, x, other = given
    (rows, inner), columns = _value(x).shape, _value(other).shape[1]
    if not _fits((rows, inner, columns), x, other, *bias) or any(_value(one).shape != (columns,) for one in bias):
        return None
    with graph.inserting_before(node):
        weight = _call(graph, aten.permute.default, other, (1, 0))
    return Form(x, weight, bias[0] if bias else None, lambda made: made)


def _from_left(graph: fx.Graph, node: fx.Node) -> Form | None:
    """weight @ x + bias for one weight and images x (B, K, C), with a bias for each row: of x^T from the right."""
    given: tuple[Any, ...] = node.args
    *bias, left, x = given
    if left.target is not aten.expand.default or _value(weight := left.args[0]).ndim != 2:
        return None
    (columns, inner), (batch, _, channels) = _value(weight).shape, _value(x).shape
    if not _fits((batch * channels, inner, columns), x, weight, *bias):
        return None
    if any(_value(one).shape != (columns, 1) for one in bias):
        return None
    with graph.inserting_before(node):
        turned = _call(graph, aten.permute.default, x, (0, 2, 1))
        rows = _call(graph, aten.reshape.default, turned, (batch * channels, inner))
        flat = [_call(graph, aten.reshape.default, one, (columns,)) for one in bias]

    def view(made: fx.Node) -> fx.Node:
        images = _call(graph, aten.reshape.default, made, (batch, channels, columns))
        return _call(graph, aten.permute.default, images, (0, 2, 1))

    return Form(rows, weight, flat[0] if flat else None, view)


FORMS = {
    aten.mm.default: _from_right,
    aten.addmm.default: _from_right,
    aten.bmm.default: _from_left,
    aten.baddbmm.default: _from_left,
}


def _fits(sizes: tuple[Any, ...], *nodes: fx.Node) -> bool:
    """Whether all is in fp32 on a CPU, and the product of these sizes not a small one."""
    if any(_value(node).device.type != "cpu" or _value(node).dtype != torch.float32 for node in nodes):
        return False
    return not all(isinstance(size, int) for size in sizes) or prod(sizes) >= SMALL


def _exchange(graph: fx.Graph, node: fx.Node, form: Form, trains: bool) -> None:
    curve = _gelu_of(node)
    with graph.inserting_before(node):
        mark = None if trains else _marked(graph, form)
        given = form.rows, form.weight, form.bias, "gelu" if curve else "none", mark
        made = _call(graph, torch.ops.metablocks.product.default, *given)
        seen = form.view(made)
    node.replace_all_uses_with(seen)
    if curve is not None:
        before, after = curve
        after.replace_all_uses_with(seen if before is node else before)
    graph.eliminate_dead_code()


def _marked(graph: fx.Graph, form: Form) -> fx.Node | None:
    """The mark of the weight of a large product, a scalar in int64, see `cpu_weights`; None for other products."""
    rows, sizes = _value(form.rows).shape[0], _value(form.weight).shape
    if (isinstance(rows, int) and rows < ROWS) or not all(isinstance(size, int) and size >= BLOCK for size in sizes):
        return None
    by_row, by_column = (_call(graph, torch.ops.metablocks.factors.default, form.weight, dim) for dim in (0, 1))
    bits = _call(graph, aten.view.dtype, form.weight, torch.int32)
    wide = _call(graph, torch.ops.prims.convert_element_type.default, bits, torch.int64)
    turned = _call(graph, aten.mul.Tensor, wide, by_column)
    turned = _call(graph, aten.mul.Tensor, turned, _call(graph, aten.unsqueeze.default, by_row, 1))
    return _call(graph, aten.sum.dim_IntList, turned, [0, 1])


def _call(graph: fx.Graph, target: Any, *given: Any) -> fx.Node:
    """A new node with its value, which later exchanges ask for."""
    node = graph.call_function(target, given)
    node.meta["val"] = target(*fx.node.map_arg(given, _value))
    return node


def _value(node: fx.Node) -> Tensor:
    """The tensor without values that a node stands for."""
    found: Tensor = node.meta["val"]
    return found


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
