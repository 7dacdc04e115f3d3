"""Values that are made of weights alone, such as the bias table of Swin V2, which a small network makes of offsets.

While gradients are made they are made in every pass. Without gradients a compiled network makes them once and keeps
them until a weight changes, which its version counter tells: weights that are written to through `.data` are not seen
before the network is put into `eval()` again.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import nn


class Keeping(nn.Module):
    """A module with such values. It takes them from `of_weights`."""

    kept: tuple[Any, ...] | None = None
    known: tuple[object, ...] | None = None

    def made(self) -> tuple[Any, ...]:
        """Makes the values, with their gradients where these are asked for."""
        raise NotImplementedError

    def of_weights(self) -> tuple[Any, ...]:
        """The values."""
        if self.kept is None or torch.is_grad_enabled() or torch.compiler.is_exporting():
            return self.made()
        return self.kept

    def train(self, mode: bool = True) -> Self:
        self.known = None
        return super().train(mode)


def keep(model: nn.Module, _: Any = None) -> None:
    """Has every part of a model make its values anew where a weight has changed; a hook before the forward pass."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return
    for module in model.modules():
        if isinstance(module, Keeping):
            found = _state(module)
            if found is None or found != module.known:
                with torch.inference_mode(False), torch.no_grad():
                    module.kept = None if found is None else module.made()
                module.known = found


def _state(module: nn.Module) -> tuple[object, ...] | None:
    """What changes when a weight does; None where that cannot be told, or where autocast has a say in the values."""
    weights = list(module.parameters())
    if any(weight.is_inference() for weight in weights) or torch.is_autocast_enabled(weights[0].device.type):
        return None
    return tuple((weight.untyped_storage()._cdata, weight._version, weight.dtype) for weight in weights)
