"""Stems: images (B, channels, height, width) to tokens (B, N, C) over a grid, or to those of K patches (B, K, C).

patch_embed: Dosovitskiy et al. 2020, arXiv:2010.11929, equation 1. conv_embed, overlapping patches: Yu et al. 2022,
arXiv:2111.11418, figure 2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit, near, remainder
from metablocks.core.settings import Choice, NaturalPair, Pair
from metablocks.core.text import side
from metablocks.parts.norm import NoNorm, Norm, by_token


class Stem(Choice, kind="stem"):
    @property
    def step(self) -> tuple[int, int]:
        """Pixels from one token to the next."""
        raise NotImplementedError

    def grid(self, image: tuple[int, int]) -> Grid:
        """The grid of an image of (height, width) pixels; raises `Misfit`."""
        raise NotImplementedError

    def norms(self, dim: int) -> list[tuple[str, Norm, int]]:
        """(key, norm, the width that it stands at) of each norm, for tokens of width `dim`."""
        raise NotImplementedError

    def build(self, channels: int, dim: int) -> nn.Module:
        """The module for images of `channels` channels, and for the numbers (B, K) of patches where not all count."""
        raise NotImplementedError


class PatchEmbed(Stem, name="patch_embed"):
    patch: Pair = Field(examples=[16], description="side of a patch, pixels: N or [H, W]")
    norm: Norm = Field(NoNorm(), description="after the projection")

    @property
    def step(self) -> tuple[int, int]:
        return self.patch

    def grid(self, image: tuple[int, int]) -> Grid:
        if image[0] % self.patch[0] or image[1] % self.patch[1]:
            wrong = f"a patch of {side(self.patch)} does not tile an image of {side(image)} px"
            sides = dict.fromkeys(zip(image, self.patch, strict=True))
            rests = " and ".join(remainder(length, patch) for length, patch in sides if length % patch)
            square = self.patch[0] == self.patch[1]
            raise GridMisfit(wrong, rests, "patch", near("patch", self.patch[0], *image) if square else ())
        return Grid(image[0] // self.patch[0], image[1] // self.patch[1])

    def norms(self, dim: int) -> list[tuple[str, Norm, int]]:
        return [("norm", self.norm, dim)]

    def build(self, channels: int, dim: int) -> nn.Module:
        return PatchProjection(channels, dim, self)


class ConvEmbed(Stem, name="conv_embed"):
    kernel: Pair = Field(examples=[7], description="side of the kernel, pixels: N or [H, W]")
    stride: Pair = Field(examples=[4], description="step of the kernel, pixels")
    padding: NaturalPair = Field((0, 0), description="zeros around the image, pixels")
    norm: Norm = Field(NoNorm(), description="after the convolution")

    @property
    def step(self) -> tuple[int, int]:
        return self.stride

    def grid(self, image: tuple[int, int]) -> Grid:
        return Grid(*convolved(image, self.kernel, self.stride, self.padding))

    def norms(self, dim: int) -> list[tuple[str, Norm, int]]:
        return [("norm", self.norm, dim)]

    def build(self, channels: int, dim: int) -> nn.Module:
        conv = nn.Conv2d(channels, dim, self.kernel, self.stride, self.padding)
        return ConvStem(conv, self.norm.build(dim))


class PatchProjection(nn.Module):
    """A linear layer over the pixels of each patch; its weight is kept as the convolution (C, channels, p, p).

    A product in a graph, in which pixels are gathered and what follows is fused; outside of one that convolution, which
    every library has.
    """

    few_calls = True

    def __init__(self, channels: int, dim: int, settings: PatchEmbed) -> None:
        super().__init__()
        self.patch = settings.patch
        self.proj = nn.Conv2d(channels, dim, settings.patch, settings.patch)
        self.norm = settings.norm.build(dim)

    def forward(self, images: Tensor, ids: Tensor | None = None) -> Tensor:
        if ids is not None and by_token(self.norm):
            return self.norm(self._project(pick(patchwise(images, self.patch), ids)))
        if torch.compiler.is_compiling():
            projected = self._project(patchwise(images, self.patch).flatten(1, 2))
        else:
            projected = _convolved(self.proj, images)
        return take(self.norm(projected), ids)

    def _project(self, patches: Tensor) -> Tensor:
        """Patches (B, K, channels, p, p) to tokens (B, K, C)."""
        return F.linear(patches.flatten(2), self.proj.weight.flatten(1), self.proj.bias)


class ConvStem(nn.Module):
    """A convolution, then a norm over tokens."""

    few_calls = True

    def __init__(self, conv: nn.Conv2d, norm: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm

    def forward(self, images: Tensor, ids: Tensor | None = None) -> Tensor:
        return take(self.norm(_convolved(self.conv, images)), ids)


def _convolved(conv: nn.Conv2d, images: Tensor) -> Tensor:
    """Images (B, channels, H, W) through a convolution to tokens (B, N, C)."""
    return tokens(conv(images.contiguous(memory_format=torch.channels_last)))


def patchwise(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """A view of images (B, channels, H, W) as patches in their places: (B, rows, columns, channels, height, width)."""
    return images.unflatten(3, (-1, patch[1])).unflatten(2, (-1, patch[0])).permute(0, 2, 4, 1, 3, 5)


def pick(patches: Tensor, ids: Tensor) -> Tensor:
    """The patches `ids` (B, K), numbered row by row, of patches (B, rows, columns, ...): (B, K, ...)."""
    # of a view, so that the pixels of others are not copied
    image = torch.arange(ids.shape[0], device=ids.device)[:, None]
    return patches[image, ids // patches.shape[2], ids % patches.shape[2]]


def take(tokens: Tensor, ids: Tensor | None) -> Tensor:
    """Rows `ids` (B, K) of tokens (B, N, C), or all of them."""
    return tokens if ids is None else tokens.gather(1, ids[:, :, None].expand(-1, -1, tokens.shape[2]))


def tokens(image: Tensor) -> Tensor:
    """(B, C, H, W) to contiguous tokens (B, H W, C): free of copies where the image is channels_last."""
    return image.permute(0, 2, 3, 1).flatten(1, 2).contiguous()


def convolved(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, int]:
    """Height and width after a convolution; raises `Misfit` where its kernel does not fit."""
    room = [length + 2 * pad - reach for length, pad, reach in zip(size, padding, kernel, strict=True)]
    if min(room) < 0:
        wrong = f"a kernel of {side(kernel)} does not fit on {size[0]} x {size[1]} with a padding of {side(padding)}"
        fitting = min(length + 2 * pad for length, pad in zip(size, padding, strict=True))
        raise GridMisfit(wrong, "", "kernel", [("kernel", fitting)])
    return room[0] // stride[0] + 1, room[1] // stride[1] + 1
