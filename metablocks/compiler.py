"""Compiled callables: a graph for each distinct block, what the compiler is told, and what is said where it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch.utils.checkpoint import checkpoint

from metablocks.core.errors import Fault, InputError, MetablocksError, MissingError
from metablocks.core.kept import keep, keeps
from metablocks.core.text import printable
from metablocks.kernels.inductor import AUTOTUNE, FUNCTORCH, INDUCTOR, Backend, Settings, compiled
from metablocks.nets import Network, blocks

Compile = Literal["none", "block", "model"]
NO_CXX = "install g++ or clang (or set CXX), or use --compile none"


@dataclass(frozen=True)
class Choices:
    """What a user chooses about the graphs of a network.

    `autotune`: every kernel is timed in several ways while it is compiled, and the fastest is taken.
    `checkpoint`: with True the backward pass runs each block again and keeps only its input; with a share between 0
    and 1 of the activations that a graph would keep, it keeps these and computes the others again, cheap ones first.
    `device`: whose usual settings are taken, in the place of that of the network.
    """

    autotune: bool = False
    checkpoint: bool | float = False
    device: torch.device | None = None


def settings(model: Network, choices: Choices) -> Settings:
    """What the compiler is told: what is usual on the device, and what is chosen."""
    kind = (choices.device or next(model.parameters()).device).type
    inductor, functorch = INDUCTOR.get(kind, {}), FUNCTORCH.get(kind, {})
    shares = [block.kept_share for _, block in blocks(model)] if kind == "cuda" else []
    usual = budget(min(shares)) if shares else {}
    inductor = inductor | (AUTOTUNE if choices.autotune else {})
    return Settings(inductor, functorch | usual | budget(choices.checkpoint), kind)


def budget(checkpoint: bool | float) -> dict[str, Any]:
    """What AOTAutograd is told where a share of activations is to be kept; nothing where blocks are checkpointed."""
    return {} if isinstance(checkpoint, bool) else {"activation_memory_budget": checkpoint}


def compile_network(
    model: Network, how: Compile, backend: Backend = "inductor", dynamic: bool = False, choices: Choices | None = None
) -> None:
    """Compiles in place, and sets up activation checkpointing. Nothing is compiled before the first call."""
    choices = choices or Choices()
    share = choices.checkpoint
    if not isinstance(share, bool) and (how == "none" or not 0 < share < 1):
        wrong = f"a share of activations of {share:g}, compile {printable(how)}"
        raise InputError(Fault(wrong, help="a compiler keeps a share between 0 and 1; without one, checkpoint blocks"))
    told = settings(model, choices)
    _compile(model, how, told.backend(backend), dynamic, told.kind)
    if share is True:
        checkpoint_blocks(model)


def _compile(model: Network, how: Compile, backend: Callable[..., Any], dynamic: bool, kind: str) -> None:
    if how not in ("none", "block", "model"):
        raise InputError(Fault(f"no way to compile called `{printable(how)}`", help="none, block or model"))
    if how == "none":
        return
    if how == "model":
        model.register_forward_pre_hook(_admit, with_kwargs=True)
        model.register_forward_pre_hook(keep)
        model.forward = compiled(type(model).forward, backend, dynamic).__get__(model)
        return
    known: dict[Any, Callable[..., Any]] = {}
    for distinct, block in blocks(model):
        if distinct not in known:
            known[distinct] = compiled(type(block).forward, backend, dynamic)
        block.forward = known[distinct].__get__(block)  # type: ignore[method-assign]
        if keeps(block):
            block.register_forward_pre_hook(keep)
    for module, method in model.once():
        if kind == "cpu" and getattr(module, "few_calls", False):
            continue
        setattr(module, method, compiled(getattr(type(module), method), backend, dynamic).__get__(module))


def _admit(model: Network, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Before a graph of a whole network: what is refused inside it would be told in the compiler's words."""
    model.admit(inputs[0] if inputs else named["images"])


def checkpoint_blocks(model: Network) -> None:
    """Activation checkpointing: the backward pass runs each block again and keeps only its input. In place.

    Chen et al. 2016, arXiv:1604.06174. After compiling, so that what is checkpointed is the compiled block.
    """
    for _, block in blocks(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]


def from_cache() -> Literal["cold", "warm", "mixed"]:
    """Whether inductor's graphs in this process came from its cache on disk: none, all, some."""
    from torch._dynamo.utils import counters

    hits, misses = counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"]
    return "mixed" if hits and misses else "warm" if hits else "cold"


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
