"""Stems: images (B, channels, height, width) to tokens (B, N, C) over a grid.

patch_embed: Dosovitskiy et al. 2020, arXiv:2010.11929, equation 1. conv_embed, overlapping patches: Yu et al. 2022,
arXiv:2111.11418, figure 2.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import Misfit
from metablocks.core.settings import Choice, NaturalPair, Pair
from metablocks.parts.norm import NoNorm, Norm


class Stem(Choice, kind="stem"):
    def grid(self, image: tuple[int, int]) -> Grid:
        """The grid of an image of (height, width) pixels; raises `Misfit`."""
        raise NotImplementedError

    def build(self, channels: int, dim: int) -> nn.Module:
        """The module for images of `channels` channels."""
        raise NotImplementedError


class PatchEmbed(Stem, name="patch_embed"):
    patch: Pair = Field(description="side of a patch, pixels: N or [H, W]")
    norm: Norm = Field(NoNorm(), description="after the projection")

    def grid(self, image: tuple[int, int]) -> Grid:
        if image[0] % self.patch[0] or image[1] % self.patch[1]:
            wrong = f"patches of {_times(self.patch)} px do not tile an image of {_times(image)} px"
            raise Misfit(wrong, f"use an image of {_times(_below(image, self.patch))} px", "patch")
        return Grid(image[0] // self.patch[0], image[1] // self.patch[1])

    def build(self, channels: int, dim: int) -> nn.Module:
        return PatchProjection(channels, dim, self)


class ConvEmbed(Stem, name="conv_embed"):
    kernel: Pair = Field(description="side of the kernel, pixels: N or [H, W]")
    stride: Pair = Field(description="step of the kernel, pixels")
    padding: NaturalPair = Field((0, 0), description="zeros around the image, pixels")
    norm: Norm = Field(NoNorm(), description="after the convolution")

    def grid(self, image: tuple[int, int]) -> Grid:
        return Grid(*convolved(image, self.kernel, self.stride, self.padding))

    def build(self, channels: int, dim: int) -> nn.Module:
        conv = nn.Conv2d(channels, dim, self.kernel, self.stride, self.padding)
        return ConvStem(conv, self.norm.build(dim))


class PatchProjection(nn.Module):
    """A linear layer over the pixels of each patch; its weight is kept as the convolution (C, channels, p, p)."""

    def __init__(self, channels: int, dim: int, settings: PatchEmbed) -> None:
        super().__init__()
        self.patch = settings.patch
        self.proj = nn.Conv2d(channels, dim, settings.patch, settings.patch)
        self.norm = settings.norm.build(dim)

    def forward(self, images: Tensor) -> Tensor:
        patches = images.unflatten(3, (-1, self.patch[1])).unflatten(2, (-1, self.patch[0]))
        pixels = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return self.norm(F.linear(pixels, self.proj.weight.flatten(1), self.proj.bias))


class ConvStem(nn.Module):
    """A convolution, then a norm over tokens."""

    def __init__(self, conv: nn.Conv2d, norm: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images).permute(0, 2, 3, 1).flatten(1, 2))


def convolved(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, int]:
    """Height and width after a convolution; raises `Misfit` where its kernel does not fit."""
    room = [length + 2 * pad - side for length, pad, side in zip(size, padding, kernel, strict=True)]
    if min(room) < 0:
        wrong = f"a kernel of {_times(kernel)} does not fit on {_times(size)} with a padding of {_times(padding)}"
        raise Misfit(wrong, "use a larger image or a smaller kernel", "kernel")
    return room[0] // stride[0] + 1, room[1] // stride[1] + 1


def _below(image: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    rows, columns = (max(1, round(length / side)) * side for length, side in zip(image, patch, strict=True))
    return rows, columns


def _times(pair: tuple[int, int]) -> str:
    return f"{pair[0]} x {pair[1]}"
