"""How far attention in one tile is from its twin in float64: shared by interpreter and GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from metablocks.kernels import tile_twin

Shape = tuple[int, int, int, int]
"""Images, tokens, heads, channels of a head."""
CASES: dict[str, Shape] = {
    "MAE's encoder": (3, 50, 2, 64),
    "a full tile": (2, 64, 2, 64),
    "CAFormer's last stage": (2, 49, 3, 32),
    "two tiles of 64": (1, 128, 1, 64),
    "wide heads": (1, 33, 2, 80),
    "channels that no vector divides": (2, 17, 3, 20),
    "one token": (2, 1, 2, 16),
    "one channel": (1, 5, 1, 1),
}


def inputs(shape: Shape, dtype: torch.dtype, device: str = "cpu") -> tuple[Tensor, Tensor, float]:
    """Packed tokens, the gradient of what is made of them, and a scale: the numbers are those of `dtype`."""
    images, tokens, heads, width = shape
    made = torch.Generator().manual_seed(3)
    packed = torch.randn(images, tokens, 3, heads, width, generator=made).to(device, dtype)
    return packed, torch.randn(images, tokens, heads * width, generator=made).to(device, dtype), width**-0.5


def errors(shape: Shape, dtype: torch.dtype, device: str = "cpu", overall: bool = False) -> dict[str, float]:
    """Largest difference of the kernels to the twin in float64, over its largest value, of output and gradient.

    `overall`: the norm of all differences over that of all values.
    """
    from metablocks.kernels import tile_launch

    relative = _overall if overall else _relative
    packed, grad, scale = inputs(shape, dtype, device)
    exact = packed.double().requires_grad_()
    expected = tile_twin.attention(exact, scale)
    expected.backward(grad.double())
    return {
        "output": relative(tile_launch.attention(packed, scale), expected.detach()),
        "gradient": relative(tile_launch.gradient(grad, packed, scale), exact.grad),
    }


def _relative(value: Tensor, exact: Tensor) -> float:
    # over 0.1 at least, for gradients that cancel
    return float((value.double() - exact).abs().max() / exact.abs().max().clamp_min(0.1))


def _overall(value: Tensor, exact: Tensor) -> float:
    return float((value.double() - exact).norm() / exact.norm().clamp_min(0.1))
