"""The kernels of a graph, as inductor schedules them for a GPU, and the tensors that each of them reads and writes.

What a kernel moves is the least that it can: of every buffer the elements that its index expressions reach, each
counted once, and never more than the buffer has. What it reads again from a cache is not counted, nor what stays in
it. Of a kernel from a library, and of one registered with torch, the operands are read and the results
written, once each.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import fx
from torch._inductor import compile_fx, ir, scheduler
from torch._inductor.debug import DebugContext
from torch._inductor.dependencies import MemoryDep
from torch._inductor.fx_passes.post_grad import view_to_reshape
from torch._inductor.graph import GraphLowering
from torch._inductor.virtualized import V

from metablocks.bench.traffic.gpu import copies, decompositions, moved

Call = Callable[[tuple["Kernel", ...]], AbstractContextManager[None]]
"""Around one call of a graph: what is done inside stands for these kernels."""
Kind = Literal["fused", "extern", "eager"]


@dataclass(frozen=True)
class Access:
    """`elements` of a buffer that has `of` elements, each of so many bytes."""

    elements: int
    of: int
    itemsize: int


@dataclass(frozen=True)
class Kernel:
    """One launch, and the operations that it is made of.

    Its kind: `fused`, written by inductor; `extern`, of a library or registered with torch; `eager`, an
    operation outside of a compiled graph.
    """

    name: str
    kind: Kind
    accesses: tuple[Access, ...]


def backend(call: Call) -> Callable[..., Any]:
    """A backend of `torch.compile` that hands the kernels of a graph to `call` on each of its calls.

    What it compiles to runs the graph operation by operation, so it is for fake tensors.
    """

    def compiled(graph: fx.GraphModule, inputs: list[Any]) -> Any:
        return compile_fx.compile_fx(graph, inputs, inner, decompositions=decompositions())

    def inner(graph: fx.GraphModule, inputs: list[Any], **known: Any) -> Any:
        plain = copy.deepcopy(graph)
        kernels = schedule(graph, inputs, bool(known.get("is_inference")), bool(known.get("is_backward")))

        def run(arguments: list[Any]) -> Any:
            with call(kernels), torch.no_grad():
                return plain(*arguments)

        run._boxed_call = True  # type: ignore[attr-defined]
        return run

    return compiled


def schedule(
    graph: fx.GraphModule, inputs: list[Any], is_inference: bool, is_backward: bool = False
) -> tuple[Kernel, ...]:
    """The kernels of a graph of ATen operations on fake tensors of a CPU, after inductor's last passes and fusion."""
    mode = torch._guards.detect_fake_mode(inputs)
    assert mode is not None
    inputs = moved(graph, inputs, mode)
    with copies(), V.set_debug_handler(DebugContext()), V.set_fake_mode(mode), torch.no_grad():
        view_to_reshape(graph)
        compile_fx._recursive_record_original_output_strides(graph)
        compile_fx._recursive_post_grad_passes(graph, is_inference=is_inference)
        lowering = GraphLowering(
            graph, inputs, shape_env=graph.shape_env, is_inference=is_inference, is_backward=is_backward
        )
        with V.set_graph_handler(lowering), V.set_extern_kernel_nodes([]):
            lowering.run(*inputs)
            lowering.init_wrapper_code()
            lowering._update_scheduler()
            return tuple(_kernels(lowering.scheduler.nodes))


def _kernels(nodes: Iterable[Any]) -> Iterator[Kernel]:
    for node in nodes:
        if isinstance(node, scheduler.NopKernelSchedulerNode):
            continue
        if isinstance(node, scheduler.ExternKernelSchedulerNode):
            if not isinstance(node.node, ir.MultiOutput):  # which only names one of several results
                yield Kernel(_name(node), "extern", tuple(_of_library(node)))
        else:
            yield Kernel(_name(node), "fused", tuple(_fused(node)))


def _fused(node: Any) -> Iterator[Access]:
    """Accesses of a kernel that inductor writes. What only its own parts read is never stored."""
    inside = set(node.get_nodes())
    read: dict[str, list[Any]] = {}
    written: dict[str, list[Any]] = {}
    for dep in node.read_writes.reads:
        read.setdefault(dep.name, []).append(dep)
    for dep in node.read_writes.writes:
        users = {user.node for user in node.scheduler.name_to_buf[dep.name].users}
        read.pop(dep.name, None)
        if users - inside:
            written.setdefault(dep.name, []).append(dep)
    for deps in (read, written):
        yield from _reached(deps)


def _reached(deps: Mapping[str, Iterable[Any]]) -> Iterator[Access]:
    for name, found in deps.items():
        buffer = _buffer(name)
        if buffer is not None:
            of = _numel(buffer)
            elements = sum(_distinct(dep, of) for dep in found)
            yield Access(min(of, elements), of, _itemsize(buffer))


def _distinct(dep: Any, of: int) -> int:
    """Elements that an index expression reaches; the whole buffer where an index is itself read from memory."""
    if not isinstance(dep, MemoryDep) or dep.is_indirect():
        return of
    return _hint(dep.get_numel())


def _of_library(node: Any) -> Iterator[Access]:
    """Accesses of a kernel from a library, by its operands; views of one buffer count as far as they reach."""
    reached: dict[str, int] = {}
    for operand in _operands(node.node):
        name = operand.get_name()
        # a broadcast operand has more elements than its buffer
        reached[name] = reached.get(name, 0) + _hint(prod(operand.get_size()))
    for name, elements in reached.items():
        buffer = _buffer(name)
        if buffer is not None:
            yield Access(min(_numel(buffer), elements), _numel(buffer), _itemsize(buffer))
    for output in node.get_outputs():
        for buffer in _results(node, output.node):
            yield Access(_numel(buffer), _numel(buffer), _itemsize(buffer))


def _operands(kernel: Any) -> Iterator[Any]:
    for operand in kernel.inputs:
        for one in operand if isinstance(operand, list | tuple) else (operand,):
            if hasattr(one, "get_size") and hasattr(one, "get_name"):
                yield one


def _results(node: Any, buffer: Any) -> Iterator[Any]:
    """The buffers that an output of a kernel stands for: of several results those that somebody reads."""
    if isinstance(buffer.layout, ir.MultiOutputLayout):
        for user in node.scheduler.name_to_buf[buffer.get_name()].users:
            if isinstance(getattr(user.node, "node", None), ir.MultiOutput):
                yield from (one.node for one in user.node.get_outputs() if one.users)
    elif isinstance(buffer.layout, ir.NoneLayout):
        names = buffer.get_mutation_names()
        yield from (found for name in names if (found := _buffer(name)) is not None)
    else:
        yield buffer


def _buffer(name: str) -> Any:
    found = V.graph.name_to_buffer.get(name) or V.graph.graph_inputs.get(name)
    return found if found is not None and _sized(found) else None


def _sized(buffer: Any) -> bool:
    try:
        buffer.get_size()
    except (NotImplementedError, AttributeError):
        return False
    return True


def _numel(buffer: Any) -> int:
    return _hint(prod(buffer.get_size()))


def _itemsize(buffer: Any) -> int:
    dtype: torch.dtype = buffer.get_dtype()
    return dtype.itemsize


def _hint(size: Any) -> int:
    return int(V.graph.sizevars.optimization_hint(size, fallback=0))


def _name(node: Any) -> str:
    """What a kernel is made of: the name that a library has for it, or the operations of the graph that it fuses."""
    kernel = getattr(node.node, "python_kernel_name", None) if node.node is not None else None
    if kernel:
        return str(kernel).removeprefix("torch.ops.").removeprefix("extern_kernels.")
    origins = {origin for one in node.get_nodes() for origin in one.node.get_origins()}
    names = {str(getattr(origin.target, "__name__", origin.target)).partition(".")[0] for origin in origins}
    return " ".join(sorted(names - _MUTE or names))


_MUTE = frozenset("clone convert_element_type expand permute reshape select slice squeeze unsqueeze view".split())  # noqa: SIM905
