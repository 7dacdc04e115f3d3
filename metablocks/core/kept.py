"""Values that are made of weights alone, such as the bias table of Swin V2, which a small network makes of offsets.

While gradients are made they are made in every pass. Without gradients compiled parts make them once, and keep them
until a weight changes, which its version counter tells. Some changes do not count there, those of fused optimisers and
what is written to `.data`: so nothing is kept over a pass with gradients, while a weight has one, or over `train()` and
`eval()`.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import nn

from metablocks.core.tracing import exporting


class Keeping(nn.Module):
    """A module with such values. It takes them from `of_weights`."""

    kept: tuple[Any, ...] | None = None
    known: tuple[object, ...] | None = None

    def made(self) -> tuple[Any, ...]:
        """Makes the values, with their gradients where these are asked for."""
        raise NotImplementedError

    def of_weights(self) -> tuple[Any, ...]:
        """The values: kept ones in a graph alone, before which `keep` has looked at them."""
        graph = torch.compiler.is_compiling() and not exporting()
        if not graph or self.kept is None or torch.is_grad_enabled():
            return self.made()
        return self.kept

    def train(self, mode: bool = True) -> Self:
        self.kept = self.known = None
        return super().train(mode)


def keep(part: nn.Module, _: Any = None) -> None:
    """Has every module of a part make its values anew where a weight has changed. A hook before the graph of the part,
    outside of it."""
    if torch.compiler.is_compiling():
        return
    for module in part.modules():
        if isinstance(module, Keeping):
            found = _state(module)
            if found is None or found != module.known:
                with torch.inference_mode(False), torch.no_grad():
                    module.kept = None if found is None else module.made()
                module.known = found


def keeps(part: nn.Module) -> bool:
    """Whether there is anything to keep."""
    return any(isinstance(module, Keeping) for module in part.modules())


def _state(module: nn.Module) -> tuple[object, ...] | None:
    """What changes when a weight does; None where nothing is to be kept."""
    weights = list(module.parameters())
    if torch.is_grad_enabled() or torch.is_autocast_enabled(weights[0].device.type):
        return None
    if any(weight.is_inference() or weight.grad is not None for weight in weights):
        return None
    return tuple((weight.untyped_storage()._cdata, weight._version, weight.dtype) for weight in weights)
