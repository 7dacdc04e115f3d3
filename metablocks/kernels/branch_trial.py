"""Whether a branch runs on the kernel that takes in all of it, or as modules: tried before a graph is traced.

To the compiler such a kernel is a closed box, so it has to be surely faster than what the compiler makes of the modules
with all that it fuses, and not merely faster than a twin. Both are compiled as they would be in the graph, the branch
itself with its weights, and timed on random tokens of the call's shape, with a backward pass where there will be one;
and the kernel has to be right beside the modules in float64. Only on CUDA: elsewhere, where fused kernels have been
asked for, their twins run. Letters: B images, N tokens, C width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from metablocks.kernels import pool_twin, trial
from metablocks.kernels.inductor import FUNCTORCH, INDUCTOR, Settings, compiled

DEVICES = ("cuda",)
BACKEND = "inductor"
RIVAL, KERNEL, MODULES = "compiled", "kernel", "modules"
"""The modules as a graph, where there is one; the kernel; the modules, to fall back on."""

Given = tuple[Tensor, ...]
"""Tokens (B, N, C), and mean and one over the deviation of each image, (B), where they are known."""


@dataclass(frozen=True)
class Call:
    """Tokens of a shape; whether their statistics are known, there will be a backward pass, both are in a graph."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    known: bool
    keeps: bool
    graph: bool


def kernel_wins(branch: Any, call: Call) -> bool:
    """Whether a `Branch` whose operation takes in all of it is to be left to that."""
    if call.device.type not in DEVICES or not all(call.shape):
        return True
    if not branch.op.has_kernels(call.dtype, call.device):
        return False
    if trial.off(torch.empty(0, device=call.device)):
        return True
    key = _key(branch, call)
    with trial.aside(call.device, call.keeps):
        found = _verdict(branch, call, key)
    if KERNEL in found.faults:
        trial.warn(f"fused {key}", found.why_not(KERNEL))
    return found.chosen == KERNEL


def _verdict(branch: Any, call: Call, key: str) -> trial.Verdict:
    given = cache(partial(_given, call, branch.norm.eps))  # made only where nothing is remembered
    modules, kernel = (_compiled(way) if call.graph else way for way in (_modules, _taken_in))
    ways = {RIVAL: modules, KERNEL: kernel, MODULES: _modules}

    def outcome(name: str) -> list[Tensor]:
        with trial.seeded(call.device):
            return _outcome(branch, ways[name], given())

    def wrong(name: str) -> str:
        if name == RIVAL:
            return ""
        outcome(RIVAL)  # which raises where there is no graph to be faster than
        return _wrong(branch, given())

    return trial.verdict(key, {name: partial(outcome, name) for name in ways}, call.device, wrong)


def _key(branch: Any, call: Call) -> str:
    """All that graphs differ in, and the size of the work: batches that are alike share a verdict."""
    images, *sizes = call.shape
    said = {"known": call.known, "drops path": branch.drops_path and branch.training}
    said |= {name: getattr(branch, name) is not None for name in ("layer_scale", "res_scale")}
    said |= {"norm without bias": branch.norm.bias is None, "backward": call.keeps, "compiled": call.graph}
    frozen = [name for name, one in branch.named_parameters() if call.keeps and not one.requires_grad]
    words = [str(call.dtype), *branch.op.words(), *(word for word, true in said.items() if true)]
    words += [" ".join(["frozen", *frozen])] if frozen else []
    return f"branch {' x '.join(map(str, (trial.alike(images), *sizes)))}, {', '.join(words)}"


def _given(call: Call, eps: float) -> Given:
    made = torch.Generator(call.device).manual_seed(0)
    x = torch.randn(call.shape, generator=made, device=call.device, dtype=call.dtype)
    wide = torch.promote_types(x.dtype, torch.float32)
    known = pool_twin.statistics(x.to(wide), eps).unbind(0) if call.known else ()
    return tuple(one.detach().clone().requires_grad_(call.keeps) for one in (x, *known))


def _modules(branch: Any, x: Tensor, *known: Tensor) -> Tensor:
    return branch.forward(x, known=known or None)


def _taken_in(branch: Any, x: Tensor, *known: Tensor) -> Tensor:
    return branch.taken_in(x, known=known or None)[0]


def _compiled(way: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """As a build for CUDA compiles a block. The backward pass is compiled at once: while a graph is traced, torch does
    not begin to compile another one by itself."""
    at_once = {"force_non_lazy_backward_lowering": True}
    told = Settings(INDUCTOR["cuda"], FUNCTORCH["cuda"] | at_once, "cuda")
    return compiled(way, told.backend(BACKEND), dynamic=False)


def _outcome(branch: nn.Module, way: Callable[..., Tensor], given: Given) -> list[Tensor]:
    """The output, and where gradients are kept those of what is given and of the weights, for tokens as gradient."""
    out = way(branch, *given)
    if not given[0].requires_grad:
        return [out]
    inputs = [*given, *(one for one in branch.parameters() if one.requires_grad)]
    return [out.detach(), *torch.autograd.grad(out, inputs, given[0].detach().to(out.dtype))]


def _wrong(branch: nn.Module, given: Given) -> str:
    """What of the kernel's outcome is far from that of the modules in float64 on two images; nothing where none is."""
    few = [one[:2].detach().requires_grad_(one.requires_grad) for one in given]
    exact = [one.detach().double().requires_grad_(one.requires_grad) for one in few]
    drawn = _drawn(branch)
    outcomes: list[Sequence[Tensor]] = []
    for one, way, values in ((drawn, _taken_in, few), (copy.deepcopy(drawn).double(), _modules, exact)):
        with trial.seeded(given[0].device):  # the same images drop their path
            outcomes.append(_outcome(one, way, tuple(values)))
    for index, (found, goal) in enumerate(zip(*outcomes, strict=True)):
        # sums over tokens may cancel: what as many terms come to is the norm of the gradient of tokens
        size = goal.norm() if index == 0 else max(goal.norm(), outcomes[1][1].norm())
        off = float((found.double() - goal).norm() / size)
        if not off <= trial.CLOSE[given[0].dtype]:
            return f"result {index} is off by {off:.1e}"
    return ""


def _drawn(branch: nn.Module) -> Any:
    """A copy whose weights are nowhere what they begin as: ones, zeros and small scales hide a kernel's faults."""
    made: Any = copy.deepcopy(branch)
    generator = torch.Generator(next(made.parameters()).device).manual_seed(1)
    with torch.no_grad():
        for name, one in made.named_parameters():
            middle = 1.0 if one.dim() == 1 and not name.endswith("bias") else 0.0
            one.normal_(middle, one.shape[1] ** -0.5 if one.dim() == 2 else 0.3, generator=generator)
        made.drop_rate.fill_(0.4)
    return made
