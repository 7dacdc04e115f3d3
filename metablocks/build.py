"""Plan to module to compiled callable: on meta, then storage on the device, values, a graph for each distinct block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from metablocks.compiler import Choices, Compile, checkpoint_blocks, compile_network, compiling, explain_compile_error
from metablocks.core import heap
from metablocks.core.errors import Fault, InputError, MissingError
from metablocks.core.mixer import Operation
from metablocks.cuda_graph import captured, check_device, replay_forward
from metablocks.kernels.choice import Kernels, chosen
from metablocks.nets import Network, assemble, initialise
from metablocks.plan import Plan

__all__ = [
    "DTYPES",
    "Compile",
    "build",
    "checkpoint_blocks",
    "compile_network",
    "compiling",
    "device_of",
    "dtype_of",
    "explain_compile_error",
    "lay_out",
    "materialise",
    "out_of_memory",
    "skeleton",
    "use_kernels",
]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


def build(  # noqa: PLR0913  (ways to build are a promise to users)
    plan: Plan,
    weights: Mapping[str, torch.Tensor] | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    compile: Compile = "none",
    backend: str | Callable[..., Any] = "inductor",
    dynamic: bool = False,
    kernels: Kernels | None = None,
    autotune: bool = False,
    cuda_graph: bool = False,
    checkpoint: bool | float = False,
) -> Network:
    """The network of a plan on `device`, in evaluation mode, with `weights` (by our names) or freshly initialised.

    `compile`: none; block, one graph for each distinct block, stem, downsampling and head; model, one graph in all.
    `dynamic`: graphs for every size of image and batch, where otherwise each size has graphs of its own.
    `kernels`: fused, ours where there are any, elsewhere their readable twins; reference, what torch has; by default
    what `kernels.choice` chooses for the device.
    `autotune`: every kernel is timed in several ways while it is compiled, and the fastest is taken; on CUDA products
    are in any case.
    `cuda_graph`: without gradients a forward pass is one CUDA graph, captured at the first call with inputs of a shape.
    `checkpoint`: activation checkpointing of every block, or between 0 and 1 the share of the activations of compiled
    graphs that their backward passes keep.
    Raises `MissingError` where the device or a compiler is not there, `InputError` for an unknown name and for a
    CUDA graph on another device.
    """
    device, dtype = device_of(device), dtype_of(dtype)
    if device.type == "cpu":
        heap.keep_freed()
    if cuda_graph:
        check_device(device)
    model = skeleton(plan)
    fresh = set(model.state_dict()).difference(weights or ())
    materialise(model, device)
    if fresh:
        initialise(model, plan.init)
    if weights is not None:
        model.load_state_dict(weights, strict=not fresh)
    model.to(dtype).eval()
    lay_out(model, device)
    use_kernels(model, chosen(device, kernels))
    compile_network(model, compile, backend, dynamic, Choices(autotune, checkpoint))
    if cuda_graph:
        replay_forward(model, captured)
    return model


def skeleton(plan: Plan) -> Network:
    """The network of a plan on the meta device: names, shapes and dtypes, no storage."""
    with torch.device("meta"):
        return assemble(plan)


def materialise(model: nn.Module, device: torch.device) -> None:
    """Gives every tensor on meta storage on `device`, without values; moves the others, which are tables."""
    for path, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                made = torch.empty_like(parameter, device=device) if parameter.is_meta else parameter.data.to(device)
                module._parameters[name] = nn.Parameter(made, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_meta:
                wrong = f"the buffer `{path}.{name}` was made on the meta device, so its values are lost"
                raise InputError(Fault(wrong, help='make it with device="cpu", or in a persistent parameter'))
            if buffer is not None:
                module._buffers[name] = buffer.to(device)


def lay_out(model: nn.Module, device: torch.device) -> None:
    """Has the weights of convolutions lie as they are read: with the channels last on CUDA, as the tokens have them."""
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def use_kernels(model: nn.Module, kernels: Kernels) -> None:
    """Has every mixer and channel MLP take fused kernels, or none. In place, before the first call."""
    for module in model.modules():
        if isinstance(module, Operation):
            module.fused = kernels == "fused"


def fused(model: nn.Module) -> bool:
    """Whether the parts of a network take fused kernels where there are any."""
    return any(isinstance(module, Operation) and module.fused for module in model.modules())


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or the machine, has no more memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def device_of(name: str | torch.device) -> torch.device:
    """The device by its name; raises `MissingError` where this machine has none."""
    try:
        device: torch.device | None = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise InputError(Fault(f"no device called `{name}`", help="cpu, cuda, cuda:1 or mps"))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        here = torch.cuda.device_count()
        raise MissingError(Fault(f"no device `{name}`: {here} CUDA devices here", help="--device cpu"))
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise MissingError(Fault("no device `mps` here", help="--device cpu"))
    return device


def dtype_of(name: str | torch.dtype) -> torch.dtype:
    """The dtype by its name."""
    found = name if name in DTYPES.values() else DTYPES.get(str(name))
    if not isinstance(found, torch.dtype):
        raise InputError(Fault(f"no dtype called `{name}`", help=", ".join(DTYPES)))
    return found
