"""A whole forward pass as one CUDA graph: its kernels are launched at once. That counts where they are many and short,
as at a batch of one, and is lost in the noise at large batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from metablocks.core.errors import Fault, InputError
from metablocks.core.kept import Keeping
from metablocks.nets import Network

WARM_UP = 3  # calls before the capture: libraries choose their kernels and allocate workspaces in the first ones


@dataclass(frozen=True)
class Capture:
    """A forward pass on inputs of one shape: fill `inputs`, `replay`, and read `outputs` before the next one."""

    replay: Callable[[], None]
    inputs: tuple[Tensor, ...]
    outputs: Any


def replay_forward(model: Network, capture: Callable[[Callable[..., Any], tuple[Tensor, ...]], Capture]) -> None:
    """Has a network's forward pass replay captures, one for each shape of inputs, made at the first call with it.

    In place, after compiling. Training, and whatever else keeps gradients, runs as before, and so does a call with
    named arguments. Values of weights may change, by `load_state_dict` for one; moving the network to another device
    or dtype may not.
    """
    forward = model.forward
    made: dict[Any, Capture] = {}
    keeping = [module for module in model.modules() if isinstance(module, Keeping)]
    seen: list[Any] = [None] * len(keeping)

    def replayed(*inputs: Tensor, **named: Any) -> Any:
        if named or torch.is_grad_enabled() or model.training:
            return forward(*inputs, **named)
        # a capture reads what was made of the weights where it lay; made anew, it lies elsewhere
        if not all(one.kept is old for one, old in zip(keeping, seen, strict=True)):
            made.clear()
        seen[:] = [one.kept for one in keeping]
        cast = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = (cast, *((one.shape, one.dtype, one.device) for one in inputs))
        if key not in made:
            made[key] = capture(forward, inputs)
        for static, given in zip(made[key].inputs, inputs, strict=True):
            static.copy_(given)
        made[key].replay()
        return tree_map_only(Tensor, torch.clone, made[key].outputs)

    model.forward = replayed


def captured(forward: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Capture:
    """`forward` on inputs of these shapes, captured on the CUDA device that they are on."""
    with torch.inference_mode(False):  # so that inputs of every later call may be copied into them
        static = tuple(torch.empty_like(one).copy_(one) for one in inputs)
    side = torch.cuda.Stream(static[0].device)
    side.wait_stream(torch.cuda.current_stream(static[0].device))
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            forward(*static)
    torch.cuda.current_stream(static[0].device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(static[0].device), torch.cuda.graph(graph):
        outputs = forward(*static)
    return Capture(graph.replay, static, outputs)


def check_device(device: torch.device) -> None:
    """Raises `InputError` where there are no CUDA graphs."""
    if device.type != "cuda":
        wrong = f"a CUDA graph on the device `{device.type}`"
        raise InputError(Fault(wrong, help="use --device cuda, or leave out --cuda-graph"))
