"""Plan to module to compiled callable: construct on meta, materialise on the device, fill, compile each distinct block."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from metablocks.core.errors import Fault, InputError, MissingError
from metablocks.nets import Network, assemble, blocks
from metablocks.parts.init import initialise
from metablocks.plan import Plan

Compile = Literal["none", "block", "model"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


def build(
    plan: Plan,
    weights: dict[str, torch.Tensor] | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    compile: Compile = "none",  # noqa: A002
    backend: str | Callable[..., Any] = "inductor",
) -> Network:
    """The network of a plan on `device`, in evaluation mode, with `weights` (by our names) or freshly initialised.

    `compile`: none; block, one graph for each distinct block, stem, downsampling and head; model, one graph in all.
    Raises `MissingError` where the device or a compiler is not there, `InputError` for an unknown name.
    """
    device, dtype = device_of(device), dtype_of(dtype)
    with torch.device("meta"):
        model = assemble(plan)
    materialise(model, device)
    if weights is None:
        initialise(model, plan.init)
    else:
        model.load_state_dict(weights)
    model.to(dtype).eval()
    for name, parameter in model.named_parameters():
        assert parameter.device.type == device.type, name
    compile_network(model, compile, backend)
    return model


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


def compile_network(model: Network, how: Compile, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compiles in place. Nothing is compiled before the first call."""
    if how == "none":
        return
    if how not in ("block", "model"):
        raise InputError(Fault(f"no way to compile called `{how}`", help="none, block or model"))
    if how == "model":
        model.forward = _compiled(type(model).forward, backend).__get__(model)  # type: ignore[method-assign]
        return
    compiled: dict[Any, Callable[..., Any]] = {}
    for kind, block in blocks(model):
        if kind not in compiled:
            compiled[kind] = _compiled(type(block).forward, backend)
        block.forward = compiled[kind].__get__(block)  # type: ignore[method-assign]
    for module in once(model):
        module.forward = _compiled(type(module).forward, backend).__get__(module)


def once(model: Network) -> list[nn.Module]:
    """The parts besides blocks: each is a graph of its own."""
    found = [model.encoder.stem]
    found += [stage.downsample for stage in model.encoder.stages if stage.downsample is not None]
    return found + [head for head in (getattr(model, "head", None),) if head is not None]


def _compiled(forward: types.FunctionType, backend: str | Callable[..., Any]) -> Callable[..., Any]:
    """`forward` compiled as one graph of static shapes.

    torch counts recompiles by code object, and all blocks share one: a copy gives each kind its own budget.
    """
    code = forward.__code__.replace(co_name=f"{forward.__name__}")
    copy = types.FunctionType(code, forward.__globals__, forward.__name__, forward.__defaults__, forward.__closure__)
    return torch.compile(copy, fullgraph=True, dynamic=False, backend=backend)


def device_of(name: str | torch.device) -> torch.device:
    """The device by its name; raises `MissingError` where this machine has none."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(Fault(f"no device called `{name}`", help="cpu, cuda, cuda:1 or mps")) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MissingError(Fault(f"no device `{name}`: {torch.cuda.device_count()} CUDA devices here", help="--device cpu"))
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise MissingError(Fault("no device `mps` here", help="--device cpu"))
    return device


def dtype_of(name: str | torch.dtype) -> torch.dtype:
    """The dtype by its name."""
    if isinstance(name, torch.dtype):
        return name
    if name not in DTYPES:
        raise InputError(Fault(f"no dtype called `{name}`", help=", ".join(DTYPES)))
    return DTYPES[name]
