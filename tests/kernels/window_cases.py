"""Cases of window attention and how far its kernels are from the twin in float64: shared by interpreter and GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metablocks.kernels import window_twin
from metablocks.kernels.window_attention import window_attention
from metablocks.kernels.window_layout import Windows

NAMES = ("qkv", "table", "fill", "temperature")


@dataclass(frozen=True)
class Case:
    """A map in windows; `fill` gives padding a row of its own, `cosine` a temperature."""

    windows: Windows
    head_dim: int = 8
    images: int = 2
    fill: bool = False
    cosine: bool = False

    def inputs(self, dtype: torch.dtype, device: str = "cpu") -> tuple[dict[str, Tensor | None], Tensor]:
        """What the operation takes and the gradient of what it gives: the numbers are those of `dtype`."""
        made = torch.Generator().manual_seed(3)
        width, tokens = self.windows.heads * self.head_dim, self.windows.grid[0] * self.windows.grid[1]

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=made).to(device, dtype)

        given = {
            "qkv": draw(self.images, tokens, 3 * width),
            "table": draw(self.windows.offsets, self.windows.heads),
            "fill": draw(3 * width) if self.fill else None,
            "temperature": draw(self.windows.heads).abs() + 1 if self.cosine else None,
        }
        return given, draw(self.images, tokens, width)


def errors(case: Case, dtype: torch.dtype, device: str = "cpu", overall: bool = False) -> dict[str, float]:
    """Largest difference to the twin in float64, over the largest value, of the output and of every gradient.

    `overall`: the norm of all differences over that of all values.
    """
    relative = _overall if overall else _relative
    given, grad = case.inputs(dtype, device)
    exact = {name: None if one is None else one.double().requires_grad_() for name, one in given.items()}
    mine = {name: None if one is None else one.requires_grad_() for name, one in given.items()}
    scale = 1.0 if case.cosine else case.head_dim**-0.5
    expected = window_twin.attention(*(exact[name] for name in NAMES), case.windows, scale)
    out = window_attention(mine["qkv"], mine["table"], case.windows, scale, mine["fill"], mine["temperature"])
    expected.backward(grad.double())
    out.backward(grad)
    found = {"output": relative(out.detach(), expected.detach())}
    for name in NAMES:
        if mine[name] is not None:
            found[name] = relative(mine[name].grad, exact[name].grad)
    return found


def _relative(value: Tensor, exact: Tensor) -> float:
    # over 0.1 at least, for gradients that cancel, or of padding that no token of its region sees
    return float((value.double() - exact).abs().max() / exact.abs().max().clamp_min(0.1))


def _overall(value: Tensor, exact: Tensor) -> float:
    # over 1 at least, the size of what is summed up: of a temperature's few numbers little may be left
    return float((value.double() - exact).norm() / exact.norm().clamp_min(1.0))


def windows(grid, window, shift=(0, 0), heads=2, table=None) -> Windows:
    return Windows(heads, grid, window, shift, table or window)


CASES = {
    "7, not shifted": Case(windows((7, 14), (7, 7))),
    "7, shifted": Case(windows((14, 14), (7, 7), (3, 3))),
    "7, shifted, padded": Case(windows((9, 15), (7, 7), (3, 3)), fill=True),
    "7, padded, qkv without bias": Case(windows((9, 15), (7, 7), (3, 3))),
    "7, cosine": Case(windows((14, 7), (7, 7)), cosine=True),
    "8, shifted, cosine": Case(windows((16, 16), (8, 8), (4, 4)), images=1, cosine=True),
    "8, shifted along one axis, cosine, padded, key without bias": Case(
        windows((8, 15), (8, 8), (0, 4)), fill=True, cosine=True
    ),
    "8, cosine, padded, qkv without bias": Case(windows((5, 8), (8, 8)), cosine=True),
    "8, heads of 24 channels": Case(windows((8, 16), (8, 8)), head_dim=24),
    "8, heads of 32 channels": Case(windows((8, 16), (8, 8), (0, 4)), head_dim=32, images=1),
    "not square, table of a larger window": Case(windows((6, 10), (3, 5), (1, 2), table=(4, 7)), images=3),
    "one token": Case(windows((2, 3), (1, 1)), images=1),
    "12, shifted": Case(windows((12, 24), (12, 12), (0, 6), heads=1), images=1),
    "12, padded, cosine": Case(windows((13, 12), (12, 12), (6, 0), heads=1), images=1, fill=True, cosine=True),
    "16, shifted": Case(windows((16, 17), (16, 16), (0, 8), heads=1), images=1, fill=True),
    "16, cosine": Case(windows((16, 16), (16, 16), heads=1), images=1, cosine=True),
    "9, shifted": Case(windows((9, 18), (9, 9), (0, 4), heads=1), images=2),
}
