"""A GPU that is not there: inductor lowers and schedules a graph for it, and nothing is compiled or run.

Inductor asks a device for little before it writes code: how many multiprocessors it has, and its generation. With
those of an H100 in their place, and every tensor of a graph moved to CUDA in name, torch without CUDA makes the kernels
that it would make there, up to the point where Triton's source would be written. The numbers are the same on every
machine, also on one that has another GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from inspect import signature
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, fx
from torch._dynamo.device_interface import CudaInterface
from torch._functorch import config as aot_config
from torch._inductor import config, decomposition, ir, scheduler
from torch._inductor.select_algorithm import AlgorithmSelectorCache
from torch._prims_common import suggest_memory_format
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_map

NAME = "H100"
_PROPERTIES = SimpleNamespace(
    name=NAME,
    gcnArchName=NAME,
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=80 << 30,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
    shared_memory_per_block_optin=227 << 10,
    L2_cache_size=50 << 20,
)
_DEVICE = torch.device("cuda", 0)


@contextmanager
def pretended(told: Mapping[str, Any]) -> Iterator[None]:
    """While this lasts, inductor finds an H100 and Triton, and is `told` settings of its own.

    What it would choose by timing is off, but that under max-autotune a product is a template of inductor, into which
    what follows is fused, and not a kernel of a library.
    """
    known = {
        "get_device_properties": _PROPERTIES,
        "get_device_capability": (9, 0),
        "device_count": 1,
        "current_device": 0,
        "is_bf16_supported": True,
    }
    with ExitStack() as stack:
        for name, value in known.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, _always(value)))
        stack.enter_context(mock.patch.object(CudaInterface, "get_device_properties", _always(_PROPERTIES)))
        stack.enter_context(mock.patch.object(CudaInterface, "get_compute_capability", _always(90)))
        stack.enter_context(mock.patch.object(scheduler, "has_triton", _always(True)))
        # asked when a graph is taken apart, which is before it is moved
        stack.enter_context(mock.patch.object(decomposition, "is_gpu", _always(True)))
        stack.enter_context(mock.patch.object(torch._C, "_conv_determine_backend_memory_format", _as_cudnn))
        stack.enter_context(mock.patch.object(AlgorithmSelectorCache, "__call__", _chosen))
        # no configuration of a template is made: that would need Triton
        fixed = {"shape_padding": False, "triton.autotune_cublasLt": False, "max_autotune_gemm_backends": "ATEN"}
        stack.enter_context(config.patch({**told, **fixed}))
        stack.enter_context(aot_config.patch(enable_autograd_cache=False))
        yield


def _chosen(_: Any, name: str, choices: list[Any], operands: list[Any], layout: Any, **asked: Any) -> Any:
    """What a product is made by, as inductor's choice by timing returns it: a template where it has one."""
    if not (config.max_autotune or config.max_autotune_gemm) or name not in _TEMPLATES or _depthwise(name, operands):
        made = choices[0].output_node()
    else:
        made = ir.TensorBox.create(ir.TritonTemplateBuffer(layout, operands, None))
    return (made, choices[0]) if asked.get("return_choice", not _ASKS) else made


_ASKS = "return_choice" in signature(AlgorithmSelectorCache.__call__).parameters
"""torch 2.11 returns what was chosen beside the result where it is asked to, and later ones always."""
_TEMPLATES = {"mm", "addmm", "bmm", "baddbmm", "convolution"}


def _depthwise(name: str, operands: list[Any]) -> bool:
    """Whether each channel is convolved alone: the template would pad it to a tile, and is not what timing chooses."""
    return name == "convolution" and operands[1].get_size()[1] == 1


def _as_cudnn(image: Tensor, weight: Tensor, _: Any) -> torch.memory_format:
    """The layout that cuDNN gives the result of a convolution. A torch without CUDA knows none of cuDNN's."""
    last = torch.channels_last
    either = image.dim() == 4 and last in (suggest_memory_format(image), suggest_memory_format(weight))
    return last if either and image.dtype != torch.float64 else torch.contiguous_format


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Inductor's, with those for drop path that it keeps from a CPU, on which the graph still is when they are used."""

    def bernoulli(like: Tensor, p: Any = 0.5, *, generator: Any = None) -> Tensor:  # noqa: ARG001
        return torch.rand_like(like, dtype=torch.float32) < p

    def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Any = None) -> Tensor:  # noqa: ARG001
        return self.copy_(bernoulli(self, p))

    in_place = {torch.ops.aten.bernoulli_.float: bernoulli_, torch.ops.aten.bernoulli_.Tensor: bernoulli_}
    return {**decomposition.select_decomp_table(), torch.ops.aten.bernoulli.p: bernoulli, **in_place}


@contextmanager
def copies() -> Iterator[None]:
    """While this lasts, `Tensor.copy_` works on fake tensors of CUDA: the method asks for the device before it is
    told that there is nothing to copy, the operation does not."""

    def copy(self: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        return torch.ops.aten.copy_.default(self, source, non_blocking)

    with mock.patch.object(Tensor, "copy_", copy):
        yield


def moved(graph: fx.GraphModule, inputs: list[Any], mode: FakeTensorMode) -> list[Any]:
    """Moves a graph from the CPU to CUDA in name, in place; returns its inputs, moved as well."""

    def there(value: Any) -> Any:
        if isinstance(value, torch.device):
            return _DEVICE if value.type == "cpu" else value
        return _renamed(value, mode) if isinstance(value, Tensor) else value

    for node in graph.graph.nodes:
        node.args, node.kwargs = tree_map(there, node.args), tree_map(there, node.kwargs)
        if "val" in node.meta:
            node.meta["val"] = tree_map(there, node.meta["val"])
    for module in graph.modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = buffer if buffer is None else there(buffer)
    for name, value in vars(graph).items():
        if isinstance(value, Tensor):  # a constant of the graph
            setattr(graph, name, there(value))
    return [there(value) for value in inputs]


def _renamed(tensor: Tensor, mode: FakeTensorMode) -> Tensor:
    """A fake tensor of CUDA with the shape, strides and dtype of one of the CPU; others as they are."""
    if tensor.device.type != "cpu":
        return tensor
    like = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return FakeTensor(mode, like, _DEVICE)


def _always(value: Any) -> Any:
    return lambda *_, **__: value
