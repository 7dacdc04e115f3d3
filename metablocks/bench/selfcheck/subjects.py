"""Subjects whose cost is known, or that misbehave in a known way. Workers load this file as `FILE.py:FUNCTION`."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

PAUSE_S = 0.01
LONGER = 1.05
LONG_PAUSE_S = 0.05
HOARD_BYTES = 256 << 20
TIMES = 4  # products in a row
CLAIMED = 1 << 22  # outputs that a layer claims to have computed

Made = tuple[nn.Module, Tensor]
"""A module and one image."""


class Pause(nn.Module):
    """Takes so many seconds, on any machine."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return images + 1


class Products(nn.Module):
    """Matrix products and nothing else."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(side, side, bias=False) for _ in range(TIMES))

    def forward(self, images: Tensor) -> Tensor:
        for layer in self.layers:
            images = layer(images)
        return images


class Hoard(nn.Module):
    """Needs 256 MiB for the time of a call."""

    def forward(self, images: Tensor) -> Tensor:
        # filled, or the system would never hand the pages over
        kept = torch.ones(HOARD_BYTES // 4, dtype=torch.float32, device=images.device)
        return images + kept[0].to(images.dtype)


class Shirker(nn.Module):
    """Multiplies where it is counted, on the meta device, and nowhere else."""

    def forward(self, images: Tensor) -> Tensor:
        if images.is_meta:
            return images @ images.new_empty(images.shape[-1], CLAIMED)
        return images + 1


class Compilable(nn.Module):
    """A layer for the compiler; `error` is what compiled outputs are off by."""

    def __init__(self, error: float) -> None:
        super().__init__()
        self.layer, self.error = nn.Linear(64, 64), error

    def forward(self, images: Tensor) -> Tensor:
        features = nn.functional.gelu(self.layer(images))
        return features * (1 + self.error) if torch.compiler.is_compiling() else features


def pause() -> Made:
    return Pause(PAUSE_S), torch.ones(1, 8)


def longer_pause() -> Made:
    return Pause(LONGER * PAUSE_S), torch.ones(1, 8)


def long_pause() -> Made:
    return Pause(LONG_PAUSE_S), torch.ones(1, 8)


def products() -> Made:
    return Products(512), torch.ones(1, 512)


def single_products() -> Made:
    torch.set_num_threads(1)  # more, on busy processors, wait for each other a hundred times as long as they work
    return products()


def large_products() -> Made:
    return Products(4096), torch.ones(1, 4096)


def hoard() -> Made:
    return Hoard(), torch.ones(1, 8)


def shirker() -> Made:
    return Shirker(), torch.ones(1, 4096)


def compilable() -> Made:
    torch.set_num_threads(1)
    return Compilable(0.0), torch.ones(1, 64)


def miscompiled() -> Made:
    return Compilable(0.5), torch.ones(1, 64)
