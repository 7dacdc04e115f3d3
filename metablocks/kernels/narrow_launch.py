"""The branch of a narrow channel MLP on its Triton kernels: tiles, programs, and memory for what they write.

Imported where a kernel runs, because it brings in Triton. Letters as in `narrow_twin`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

import torch
import triton
from torch import Tensor

from metablocks.kernels import narrow_kernels
from metablocks.kernels.choice import on_its_device
from metablocks.kernels.narrow_twin import How, Known, Scales, Weights

# Tokens of a tile, hidden channels of a slice, warps, and stages of the pipeline that loads slices: what fits the
# registers without spills. Matrix instructions of sm_90 are for 64 rows, and read operands from shared memory.
TILES = {
    80: {"forward": (64, 32, 4, 2), "backward_tokens": (64, 32, 4, 2), "backward_weights": (64, 32, 8, 1)},
    90: {"forward": (128, 64, 8, 2), "backward_tokens": (64, 32, 4, 2), "backward_weights": (32, 64, 8, 2)},
}
PROGRAMS = 264
"""Of those that sum weights up, two for each multiprocessor of an H100: on every GPU, so that sums are the same."""


@on_its_device
def branch(x: Tensor, weights: Weights, scales: Scales, known: Known, how: How) -> Tensor:
    """As `narrow_twin.branch`, of contiguous tensors."""
    out = torch.empty_like(x)
    given = (x, *_or(x, known or (None, None)), *_or(x, weights), *_or(x, scales), out)
    there = _there(weights, known, how) | _scaled(scales) | {"OFFSETS": weights.offset is not None}
    _run("forward", x, weights, (*given, *_lengths(x), how[0]), there)
    return out


@on_its_device
def backward_tokens(
    grad: Tensor, x: Tensor, weights: Weights, scales: Scales, known: Known, how: How
) -> tuple[Tensor, Tensor]:
    """As `narrow_twin.backward_tokens`, of contiguous tensors."""
    made = torch.empty_like(x)
    along = x.new_empty((0,) if known is None else (2, x.shape[0], x.shape[1]), dtype=torch.float32)
    given = (grad, x, *_or(x, known or (None, None)), *_or(x, weights[:4]), *_or(x, scales), made, along)
    there = _there(weights, known, how) | _scaled(scales)
    _run("backward_tokens", x, weights, (*given, *_lengths(x), how[0]), there)
    return made, along


@on_its_device
def backward_weights(
    grad: Tensor, x: Tensor, weights: Weights, kept: Tensor | None, known: Known, how: How
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `narrow_twin.backward_weights`, of contiguous tensors. Shares of programs are added up in a fixed order."""
    hidden, width = weights.first.shape
    tile, slice, _, _ = tiles("backward_weights", hidden, _capability(x))
    total, tokens = _lengths(x)
    walkers = max(1, min(triton.cdiv(total, tile), PROGRAMS // (hidden // slice)))
    shapes = ((hidden, width), (hidden,), (hidden, width), (width,))
    parts = [x.new_zeros(walkers if total else 0, *shape, dtype=torch.float32) for shape in shapes]
    given = (grad, x, *_or(x, known or (None, None)), *_or(x, weights[:4]), *_or(x, (kept,)), *parts)
    there = _there(weights, known, how) | {"DROPS": kept is not None}
    _run("backward_weights", x, weights, (*given, total, tokens, walkers, how[0]), there, walkers * (hidden // slice))
    to_first, to_shift, to_second, to_offset = (part.sum(0) for part in parts)
    return to_first, to_shift, to_second.T.contiguous(), to_offset


def _run(  # a launch
    name: str, x: Tensor, weights: Weights, given: tuple[Any, ...], there: dict[str, int], programs: int | None = None
) -> None:
    hidden, width = weights.first.shape
    fixed, options = settings(name, width, hidden, _capability(x))
    if x.numel():
        many = programs or triton.cdiv(x.shape[0] * x.shape[1], fixed["BLOCK"])
        getattr(narrow_kernels, name)[(many,)](*given, **fixed, **there, **options)


def settings(name: str, width: int, hidden: int, capability: int) -> tuple[dict[str, int], dict[str, int]]:
    """What a variant of a kernel is compiled for, and how."""
    tile, slice, warps, stages = tiles(name, hidden, capability)
    blocks = {"BLOCK": tile, "BLOCK_C": max(16, triton.next_power_of_2(width)), "SLICE": slice}
    return {"C": width, "HIDDEN": hidden, **blocks}, {"num_warps": warps, "num_stages": stages}


def tiles(name: str, hidden: int, capability: int) -> tuple[int, int, int, int]:
    """As in `TILES`, with slices that divide the hidden layer."""
    tile, slice, *rest = TILES[90 if capability == 90 else 80][name]
    return tile, gcd(slice, hidden), rest[0], rest[1]


def _there(weights: Weights, known: Known, how: How) -> dict[str, int]:
    factor = weights.factor
    factors = 0 if factor is None else min(factor.numel(), 2)
    return {"GELU": how[1], "SHIFTS": weights.shift is not None, "FACTORS": factors, "KNOWN": known is not None}


def _scaled(scales: Scales) -> dict[str, int]:
    return {"SKIPS": scales[0] is not None, "DROPS": scales[1] is not None}


def _or(x: Tensor, given: Sequence[Tensor | None]) -> list[Tensor]:
    """No kernel follows the pointer for what is not there."""
    return [x if one is None else one.contiguous() for one in given]


def _lengths(x: Tensor) -> tuple[int, int]:
    return x.shape[0] * x.shape[1], x.shape[1]


def _capability(x: Tensor) -> int:
    major, minor = torch.cuda.get_device_capability(x.device) if x.is_cuda else (9, 0)
    return 10 * major + minor
