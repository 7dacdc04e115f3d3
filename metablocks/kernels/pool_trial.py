"""A pooling branch on its kernels where these have shown that they are right and pay, and on its twin elsewhere.

A variant of a kernel is tried on its first call on a GPU: two images of random numbers against the twin in float64,
then both are timed on that call. What is wrong, raises or is slower does not run, and a warning says so once.
`METABLOCKS_TRIAL=off` lets kernels run untried, for checks of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from metablocks.kernels import pool_twin, trial

Pass = Literal["residual", "backward"]
Given = tuple[Any, ...]
"""What the function of that name in `pool_twin` takes: a map first, the scales last but two, the sizes last."""


def run(which: Pass, given: Given) -> tuple[Tensor, Tensor, Tensor]:
    """A pass over contiguous maps for which there is a kernel. In Triton's interpreter that is what runs."""
    untried = trial.off(given[0]) or not given[0].numel()  # of nothing there is nothing to learn
    return (_kernel(which) if untried or kernel_wins(which, given) else _twin(which))(*given)


def kernel_wins(which: Pass, given: Given) -> bool:
    """Whether the kernel is right and no slower than the twin where `given` is."""
    calls = {"kernel": partial(_run, _kernel, which, given), "twin": partial(_run, _twin, which, given)}
    found = trial.verdict(_key(which, given), calls, given[0].device, lambda _: _wrong(which, given))
    if found.chosen != "kernel":
        trial.warn(f"fused pooling, {which}, {tuple(given[0].shape)}, {given[0].dtype}", found.why_not("kernel"))
    return found.chosen == "kernel"


def _run(way: Callable[[Pass], Any], which: Pass, given: Given) -> Any:
    return way(which)(*given)


def _kernel(which: Pass) -> Any:
    from metablocks.kernels import pool_launch  # brings in Triton

    return getattr(pool_launch, which)


def _twin(which: Pass) -> Any:
    return getattr(pool_twin, which)


def _key(which: Pass, given: Given) -> str:
    """What kernels are compiled for, and the size of the work: batches that are alike share a verdict."""
    images, *shape = given[0].shape
    there = [getattr(one, "dtype", None) for one in tree_leaves(given[:-1])]
    return f"pool_residual {which} {shape} {given[-1]} {there} {trial.alike(images)}"


def _wrong(which: Pass, given: Given) -> str:
    """What is far from the twin in float64 on two images of random numbers; nothing where all is close."""
    made = torch.Generator(given[0].device).manual_seed(0)

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=made, device=like.device, dtype=like.dtype)

    drawn = tree_map_only(Tensor, draw, _some(given, 2))
    exact = tree_map_only(Tensor, Tensor.double, drawn)
    for index, (one, true) in enumerate(zip(_kernel(which)(*drawn), _twin(which)(*exact), strict=True)):
        if why := trial.far(f"result {index}", one, true, given[0].dtype):
            return why
    return ""


def _some(given: Given, images: int) -> Given:
    """The same of some images: of maps (B, N, C), of statistics (2, B), and of `kept`, (B)."""

    def cut(one: Tensor) -> Tensor:
        return one[:images] if one.dim() == 3 else one[:, :images] if one.dim() == 2 else one

    *before, (scale, skip, kept), after, sizes = tree_map_only(Tensor, cut, given)
    return *before, (scale, skip, None if kept is None else kept[:images]), after, sizes
