"""A subject made ready to run: the network with weights and inputs that are never zeros, and its outputs compared.

Letters: B batch, C channels, H W image, U masked units.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metablocks.bench.case import Case
from metablocks.build import build, dtype_of
from metablocks.plan import Plan

BUFFERS = 3  # inputs are rotated, so that none is served from a cache
NOISE = 0.02  # added to every weight: publishers start heads and scales at zero, which would hide faults
LIMITS = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Outputs:
    """How two outputs differ: the largest difference, relative to the largest value of the first, and its limit."""

    difference: float
    limit: float

    @property
    def agree(self) -> bool:
        return self.difference <= self.limit  # not where it is nan


def network(case: Case, plan: Plan) -> nn.Module:
    """The eager network on the device of the case, with seeded weights of which none is zero."""
    torch.manual_seed(0)
    model = build(plan, device=case.device, dtype=case.dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=NOISE)
    return model


def inputs(case: Case, plan: Plan, batch: int) -> list[Inputs]:
    """Seeded normal images (B, C, H, W), for a masked autoencoder with its noise (B, U)."""
    stem = plan.encoder.stem
    shapes: list[tuple[int, ...]] = [(batch, stem.channels, *stem.image)]
    if plan.decoder:
        units = plan.decoder.mask.units
        shapes.append((batch, units[0] * units[1]))
    # drawn on the CPU, so that all devices see the same
    generator = torch.Generator().manual_seed(0)
    return [
        tuple(torch.randn(shape, generator=generator).to(case.device, dtype_of(case.dtype)) for shape in shapes)
        for _ in range(BUFFERS)
    ]


def rotating(model: nn.Module, buffers: list[Inputs]) -> Callable[[], Any]:
    """A call of the model on the next buffer."""
    following = itertools.cycle(buffers)
    return lambda: model(*next(following))


def tensors(output: Any) -> list[Tensor]:
    """The floating-point tensors of an output, which is a tensor or a tuple of them."""
    items = [output] if isinstance(output, Tensor) else list(output)
    return [item for item in items if isinstance(item, Tensor) and item.is_floating_point()]


def finite(output: Any) -> bool:
    return all(bool(torch.isfinite(item).all()) for item in tensors(output))


def compared(eager: Any, other: Any, dtype: str) -> Outputs:
    """Two outputs of one input side by side."""
    differences = []
    for first, second in zip(tensors(eager), tensors(other), strict=True):
        scale = max(float(first.abs().max()), 1e-30)
        differences.append(float((first.double() - second.double()).abs().max()) / scale)
    return Outputs(max(differences), LIMITS[dtype])


def held_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    return sum(tensor.nbytes for tensor in itertools.chain(model.parameters(), model.buffers()))
