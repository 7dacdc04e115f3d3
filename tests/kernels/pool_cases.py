"""Cases of a pooling branch and how far its kernels are from the plain formula in float64: for interpreter and GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metablocks.core.mixer import Around
from metablocks.kernels.pool_residual import pool_residual

EPS = 1e-5


@dataclass(frozen=True)
class Case:
    """A map with or without each of the scales; all its values are off zero by `mean`."""

    grid: tuple[int, int]
    width: int
    window: int = 3
    images: int = 2
    mean: float = 0.0
    scale: bool = True
    skip: bool = False
    kept: bool = False

    def inputs(self, dtype: torch.dtype, device: str = "cpu") -> dict[str, Tensor | None]:
        """What a branch takes: the numbers are those of `dtype`."""
        made = torch.Generator().manual_seed(3)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=made).to(device, dtype).requires_grad_()

        with torch.no_grad():
            x = draw(self.images, self.grid[0] * self.grid[1], self.width) + self.mean
        return {
            "x": x.requires_grad_(),
            "weight": draw(self.width),
            "bias": draw(self.width),
            "scale": draw(self.width) if self.scale else None,
            "skip": draw(self.width) if self.skip else None,
            "kept": draw(self.images) if self.kept else None,
        }

    def fused(self, given: dict[str, Tensor | None]) -> tuple[Tensor, Tensor, Tensor]:
        """The branch as one operation: what comes out, its mean and one over its deviation."""
        x, weight, bias, scale, skip, kept = given.values()
        out, known = pool_residual(x, Around(weight, bias, EPS, scale, skip, kept), self.grid, self.window)
        return out, *known

    def plain(self, given: dict[str, Tensor | None]) -> tuple[Tensor, Tensor, Tensor]:
        """The same step by step, as torch has it."""
        x, weight, bias, scale, skip, kept = given.values()
        normed = F.layer_norm(x, x.shape[1:], eps=EPS) * weight + bias
        image = normed.unflatten(1, self.grid).permute(0, 3, 1, 2)
        pooled = F.avg_pool2d(image, self.window, 1, self.window // 2, count_include_pad=False)
        y = pooled.permute(0, 2, 3, 1).flatten(1, 2) - normed
        y = y if scale is None else y * scale
        y = y if kept is None else y * kept[:, None, None]
        out = y + (x if skip is None else x * skip)
        return out, out.mean((1, 2)), (out.var((1, 2), correction=0) + EPS).rsqrt()


def errors(case: Case, dtype: torch.dtype, device: str = "cpu") -> dict[str, float]:
    """Largest difference to float64, over the largest value, of all that comes out and of every gradient."""
    mine = case.inputs(dtype, device)
    exact = {name: None if one is None else one.detach().double().requires_grad_() for name, one in mine.items()}
    out, expected = case.fused(mine), case.plain(exact)
    above = [torch.randn(one.shape, generator=torch.Generator().manual_seed(4)).to(one) for one in out]
    torch.autograd.backward(out, above)
    torch.autograd.backward(expected, [one.double() for one in above])
    names = ("output", "mean", "inverse")
    found = {
        name: _relative(one.detach(), other.detach()) for name, one, other in zip(names, out, expected, strict=True)
    }
    for name, one in mine.items():
        if one is not None:
            found[name] = _relative(one.grad, exact[name].grad, mine["x"].numel() / one.numel())
    return found


def _relative(value: Tensor, exact: Tensor, terms: float = 1) -> float:
    """Over the largest value, but over what so many terms of random signs come to at least: sums may cancel."""
    return float((value.double() - exact).abs().max() / exact.abs().max().clamp_min(terms**0.5))


CASES = {
    "3": Case((14, 14), 20),
    "3, tiles of all lengths": Case((7, 9), 80, skip=True, kept=True),
    "3, one channel": Case((5, 4), 1, scale=False, kept=True),
    "3, off zero": Case((6, 6), 32, mean=30.0, skip=True),
    "3, one token": Case((1, 1), 24, images=3),
    "3, one row": Case((1, 40), 16, kept=True),
    "5, without scales": Case((6, 5), 33, 5, scale=False),
    "7": Case((9, 8), 64, 7, images=1, skip=True),
    "1": Case((3, 3), 8, 1),
    "wider than the map": Case((2, 3), 8, 5, kept=True),
}
