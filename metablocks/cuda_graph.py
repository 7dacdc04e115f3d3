"""A whole forward pass as one CUDA graph: its kernels are launched at once. That counts where they are many and short,
as at a batch of one, and is lost in the noise at large batches."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from metablocks.core.errors import Fault, InputError
from metablocks.core.kept import Keeping, keep
from metablocks.nets import Network

WARM_UP = 3  # calls before the capture: libraries choose their kernels and allocate workspaces in the first ones


@dataclass(frozen=True)
class Capture:
    """A forward pass on inputs of one shape: fill `inputs`, `replay`, and read `outputs` before the next one."""

    replay: Callable[[], None]
    inputs: tuple[Tensor, ...]
    outputs: Any


Take = Callable[[Callable[..., Any], tuple[Tensor, ...]], Capture]


class Replayed:
    """A network's forward pass that replays captures, one for each shape of inputs, made at the first call with it.

    Training, and whatever else keeps gradients, runs as before, and so does a call with named arguments or with others
    than tensors. Weights may change, and be replaced: then captures are made anew.
    """

    def __init__(self, model: Network, forward: Callable[..., Any], take: Take) -> None:
        self.model, self.forward, self.take = model, forward, take
        self.made: dict[Any, Capture] = {}
        self.seen: list[Any] = []

    @cached_property
    def keeping(self) -> list[Keeping]:
        return [module for module in self.model.modules() if isinstance(module, Keeping)]

    @cached_property
    def held(self) -> list[dict[str, Any]]:
        """Parameters and buffers, by the modules that hold them."""
        return [held for one in self.model.modules() for held in (one._parameters, one._buffers) if held]

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        plain = named or not all(isinstance(one, Tensor) for one in inputs)
        if plain or torch.is_grad_enabled() or self.model.training:
            return self.forward(*inputs, **named)
        keep(self.model)
        # a capture reads weights, and what was made of them, where they lay
        seen = [one.kept for one in self.keeping]
        lies = [tensor.data_ptr() for held in self.held for tensor in held.values() if tensor is not None]
        if not _same([lies, *seen], self.seen):
            self.made.clear()
        self.seen = [lies, *seen]
        cast = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = (cast, *((one.shape, one.dtype, one.device) for one in inputs))
        if key not in self.made:
            self.made[key] = self.take(self.forward, inputs)
        for static, given in zip(self.made[key].inputs, inputs, strict=True):
            static.copy_(given)
        self.made[key].replay()
        return tree_map_only(Tensor, torch.clone, self.made[key].outputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Replayed:
        return Replayed(copy.deepcopy(self.model, memo), copy.deepcopy(self.forward, memo), self.take)


def _same(now: list[Any], before: list[Any]) -> bool:
    """Whether the places are the same, and the values that were made the same objects."""
    return bool(before) and now[0] == before[0] and all(map(operator.is_, now[1:], before[1:]))


def replay_forward(model: Network, take: Take) -> None:
    """Has a network's forward pass replay captures that `take` makes. In place, after compiling."""
    model.forward = Replayed(model, model.forward, take)


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
