"""What the compiler is told beside a graph, and how one is made of a function.

For networks, and for what a kernel is tried beside: what would be compiled in its place.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

Backend = str | Callable[..., Any]

# What inductor is told where nothing else is asked for, by the kind of device. Names are those of its config.
# On a GPU products are timed in templates beside those of the library: what follows is fused into them. A sum that two
# read is made once, in the product that is its last part, and not in each of them. Where loops stay as they are until
# kernels are fused, torch before 2.13 does not see that what follows, over (B, N, C), reads what a product of (B N, C)
# has written.
INDUCTOR: dict[str, dict[str, Any]] = {
    "cuda": {
        "max_autotune_gemm": True,
        "epilogue_fusion_first": True,
        "realize_reads_threshold": 1,
        "loop_ordering_after_fusion": torch.__version__ >= "2.13",
    },
}
# What AOTAutograd is told, which decides what is kept for the backward pass. Names of torch._functorch.config.
# A normed map and an activation are made again from what they were made of, although a product reads them.
FUNCTORCH: dict[str, dict[str, Any]] = {"cuda": {"ban_recompute_materialized_backward": False}}
# Every kernel is timed in several ways, and the parameters of the fastest are tried around.
AUTOTUNE = {"max_autotune": True, "coordinate_descent_tuning": True}


@dataclass(frozen=True)
class Settings:
    """What the compiler is told beside the graph: by nothing global, so that other networks keep theirs."""

    inductor: dict[str, Any] = field(default_factory=dict)
    functorch: dict[str, Any] = field(default_factory=dict)
    kind: str = ""
    """Of the device."""

    def backend(self, given: Backend) -> Callable[..., Any]:
        """A backend of `torch.compile` with these settings; those of inductor are for inductor alone."""
        from torch._dynamo import lookup_backend
        from torch._functorch import config

        found = self._inductor if given == "inductor" else lookup_backend(given)

        def compile_graph(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
            with config.patch(self.functorch):
                return found(graph, inputs)

        return compile_graph

    def _inductor(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        from torch import _inductor

        from metablocks.kernels import cpu_products  # brings in inductor

        own = cpu_products.options() if self.kind == "cpu" else {}
        return _inductor.compile(graph, inputs, options={**own, **self.inductor})


def compiled(forward: Callable[..., Any], backend: Callable[..., Any], dynamic: bool) -> Callable[..., Any]:
    """`forward` compiled as one graph, of static shapes unless `dynamic`.

    torch counts recompiles by code object, and all blocks share one: a copy gives each kind its own budget.
    """
    assert isinstance(forward, types.FunctionType)
    code = forward.__code__.replace()
    copy = types.FunctionType(code, forward.__globals__, forward.__name__, forward.__defaults__, forward.__closure__)
    return torch.compile(copy, fullgraph=True, dynamic=dynamic, backend=backend)
