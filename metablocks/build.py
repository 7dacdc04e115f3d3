"""Plan to module to compiled callable: on meta, then storage on the device, values, a graph for each distinct block."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from metablocks.core.errors import Fault, InputError, MetablocksError, MissingError
from metablocks.core.mixer import Mixer
from metablocks.core.text import printable
from metablocks.kernels.choice import Kernels, chosen
from metablocks.nets import Network, assemble, blocks, initialise
from metablocks.plan import Plan

Compile = Literal["none", "block", "model"]
NO_CXX = "install g++ or clang (or set CXX), or use --compile none"
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
) -> Network:
    """The network of a plan on `device`, in evaluation mode, with `weights` (by our names) or freshly initialised.

    `compile`: none; block, one graph for each distinct block, stem, downsampling and head; model, one graph in all.
    `dynamic`: graphs for every size of image and batch, where otherwise, and of mixers in windows, each size has graphs
    of its own.
    `kernels`: fused, ours where there are any, elsewhere their readable twins; reference, what torch has; by default
    what `kernels.choice` chooses for the device.
    Raises `MissingError` where the device or a compiler is not there, `InputError` for an unknown name.
    """
    device, dtype = device_of(device), dtype_of(dtype)
    model = skeleton(plan)
    fresh = set(model.state_dict()).difference(weights or ())
    materialise(model, device)
    if fresh:
        initialise(model, plan.init)
    if weights is not None:
        model.load_state_dict(weights, strict=not fresh)
    model.to(dtype).eval()
    use_kernels(model, chosen(device, kernels))
    compile_network(model, compile, backend, dynamic)
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


def use_kernels(model: nn.Module, kernels: Kernels) -> None:
    """Has every mixer take fused kernels, or none. In place, before the first call."""
    for module in model.modules():
        if isinstance(module, Mixer):
            module.fused = kernels == "fused"


def compile_network(
    model: Network, how: Compile, backend: str | Callable[..., Any] = "inductor", dynamic: bool = False
) -> None:
    """Compiles in place. Nothing is compiled before the first call."""
    if how == "none":
        return
    if how not in ("block", "model"):
        raise InputError(Fault(f"no way to compile called `{how}`", help="none, block or model"))
    if how == "model":
        dynamic = dynamic and all(block.symbolic for _, block in blocks(model))
        model.forward = _compiled(type(model).forward, backend, dynamic).__get__(model)
        return
    compiled: dict[Any, Callable[..., Any]] = {}
    for kind, block in blocks(model):
        if kind not in compiled:
            compiled[kind] = _compiled(type(block).forward, backend, dynamic and block.symbolic)
        block.forward = compiled[kind].__get__(block)  # type: ignore[method-assign]
    for module in once(model):
        module.forward = _compiled(type(module).forward, backend, dynamic).__get__(module)


def checkpoint_blocks(model: Network) -> None:
    """Activation checkpointing: the backward pass runs each block again and keeps only its input. In place.

    Chen et al. 2016, arXiv:1604.06174. After `compile_network`, so that what is checkpointed is the compiled block.
    """
    for _, block in blocks(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]


def once(model: Network) -> list[nn.Module]:
    """The parts besides blocks: each is a graph of its own."""
    downsamples = (getattr(stage, "downsample", None) for stage in model.encoder.stages)
    found = (model.encoder.stem, *downsamples, getattr(model, "head", None))
    return [module for module in found if module is not None]


def _compiled(
    forward: Callable[..., Any], backend: str | Callable[..., Any], dynamic: bool = False
) -> Callable[..., Any]:
    """`forward` compiled as one graph, of static shapes unless `dynamic`.

    torch counts recompiles by code object, and all blocks share one: a copy gives each kind its own budget.
    """
    assert isinstance(forward, types.FunctionType)
    code = forward.__code__.replace()
    copy = types.FunctionType(code, forward.__globals__, forward.__name__, forward.__defaults__, forward.__closure__)
    return torch.compile(copy, fullgraph=True, dynamic=dynamic, backend=backend)


@contextmanager
def compiling() -> Iterator[None]:
    """Around a first call: what goes wrong in the compiler is told in the user's words."""
    try:
        yield
    except Exception as error:
        told = explain_compile_error(error)
        if told is None:
            raise
        raise told from error


def explain_compile_error(error: BaseException) -> MetablocksError | None:
    """What to tell the user about an error of a compiled network; None where the compiler is not at fault."""
    found: BaseException | None = error
    while found is not None:
        cause = getattr(found, "inner_exception", None) or found
        kinds = {kind.__name__ for kind in type(cause).__mro__}
        if "InvalidCxxCompiler" in kinds:
            return MissingError(Fault("no C++ compiler works here: compiling for a CPU needs one", help=NO_CXX))
        if kinds & {"TritonMissing", "GPUTooOldForTriton", "TritonMissingException"}:
            return MissingError(Fault("Triton does not work here: compiling for a GPU needs it", help="--compile none"))
        if "TorchDynamoException" in {kind.__name__ for kind in type(found).__mro__} | kinds:
            first = (str(cause).strip().splitlines() or ["no reason given"])[0]
            wrong = f"the compiler failed: {type(cause).__name__}: {printable(first, limit=300)}"
            return MetablocksError(Fault(wrong, help="--compile none runs it without"))
        found = found.__cause__
    return None


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
