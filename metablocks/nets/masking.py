"""What stands around the blocks of a masked autoencoder, as three parts, each of them one graph where it is compiled.

They borrow the modules that they call, whose names and parameters are where the network has them.
Letters: B batch, P prefix tokens, N patches, K of them visible or masked, U masked units, V values of a patch, C width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.tracing import exporting
from metablocks.nets.parts import Embedding
from metablocks.parts.norm import by_token
from metablocks.parts.position import MaskToken
from metablocks.parts.stem import patchwise, pick, take
from metablocks.plan.nouns import MaskPlan

EPS = 1e-6
"""Added to the variance of a patch that is normalised; the original's value."""


@dataclass(frozen=True)
class View:
    """Images of one size, in plain integers: `kept` of `units`, rows and columns of masked squares, stay visible.

    `stem` are all tokens of the stem, `out` those of the decoder, each with the prefix.
    """

    stem: Grid
    out: Grid
    units: tuple[int, int]
    kept: int


class Hide(nn.Module):
    """Images (B, channels, H, W) and noise (B, U) to the tokens that the encoder takes, and the order of the units."""

    def __init__(self, stem: nn.Module, embedding: Embedding, mask_token: MaskToken, drops: bool) -> None:
        super().__init__()
        self.stem, self.embedding, self.mask_token, self.drops = stem, embedding, mask_token, drops

    def forward(self, images: Tensor, noise: Tensor, view: View, lean: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Returns tokens (B, P + K, C), units from the smallest noise on (B, U), and the place of each in these."""
        # ONNX has no other sort than its own, in which the first of two equals comes first
        order = noise.argsort(1) if exporting() else noise.argsort(dim=1, stable=True)
        rank = torch.arange(order.shape[1], device=order.device).expand_as(order)
        restore = torch.zeros_like(order).scatter(1, order, rank)
        if self.drops:
            seen = order[:, : view.kept]
            patches = self.stem(images, seen) if lean else take(self.stem(images), seen)
            return self.embedding(patches, view.stem, seen), order, restore
        hidden = spread(restore >= view.kept, view.units, view.stem).to(images.dtype)
        return self.embedding(self.mask_token(self.stem(images), hidden[..., None]), view.stem), order, restore


class Fill(nn.Module):
    """The encoder's tokens normed, and as the decoder takes them: mask tokens where patches were dropped."""

    def __init__(
        self, norm: nn.Module, embed: nn.Module, embedding: Embedding, mask_token: MaskToken, drops: bool
    ) -> None:
        super().__init__()
        self.norm, self.embed, self.embedding, self.mask_token, self.drops = norm, embed, embedding, mask_token, drops

    def forward(self, tokens: Tensor, restore: Tensor, view: View, lean: bool) -> tuple[Tensor, Tensor]:
        """Returns the normed tokens, and those of the decoder (B, P + N, C) with their positions."""
        latent = self.norm(tokens)
        embedded = self.embed(latent)
        prefix, patches = embedded[:, : view.out.prefix], embedded[:, view.out.prefix :]
        if self.drops:
            patches = self.mask_token.fill(patches, restore)
        if self.embedding.position is not None:
            prefix = self.embedding.position.at_prefix(prefix)
        # what is returned beside the loss costs a gradient of zeros
        return latent.detach() if lean else latent, torch.cat([prefix, self.embedding.place(patches, view.out)], 1)


class Predict(nn.Module):
    """The decoder's tokens (B, P + N, C) to the values of patches, and how far these are from those of the images."""

    def __init__(self, norm: nn.Module, predict: nn.Module, mask: MaskPlan) -> None:
        super().__init__()
        self.norm, self.predict, self.mask = norm, predict, mask

    def forward(
        self, tokens: Tensor, images: Tensor, order: Tensor, restore: Tensor, view: View, lean: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the loss, the prediction of all patches (B, N, V), or where `lean` of the masked ones, the mask."""
        # a sum over a batch overflows half precision
        exact = images.to(torch.promote_types(images.dtype, torch.float32))
        mask = spread(restore >= view.kept, view.units, view.out).to(images.dtype)
        prefix = view.out.prefix
        if lean:
            ids = patches_of(order[:, view.kept :], view.units, view.out)
            pred = self.predict(some(self.norm, tokens, prefix + ids))
            return ((pred.to(exact.dtype) - target(exact, self.mask, ids)) ** 2).mean(), pred.detach(), mask
        pred = self.predict(self.norm(tokens))[:, prefix:]
        far = ((pred.to(exact.dtype) - target(exact, self.mask)) ** 2).mean(-1)
        return (far * mask).sum() / mask.sum(dtype=exact.dtype), pred, mask


def target(images: Tensor, mask: MaskPlan, ids: Tensor | None = None) -> Tensor:
    """The values of patches, all (B, N, V) or `ids` (B, K, V), by row, column, channel; normalised if the spec says."""
    patches = patchwise(images, mask.patch)
    patches = patches.flatten(1, 2) if ids is None else pick(patches, ids)
    values = patches.permute(0, 1, 3, 4, 2).flatten(2)
    if mask.normalize == "patch":
        variance, mean = torch.var_mean(values, -1, keepdim=True)
        values = (values - mean) / (variance + EPS).sqrt()
    return values


def some(norm: nn.Module, tokens: Tensor, ids: Tensor) -> Tensor:
    """Tokens `ids` (B, K) of (B, N, C), normed as they are among all."""
    return norm(take(tokens, ids)) if by_token(norm) else take(norm(tokens), ids)


def spread(units: Tensor, size: tuple[int, int], grid: Grid) -> Tensor:
    """One value a unit (B, U), of rows and columns `size`, to one value a patch of `grid` (B, N)."""
    image = units.unflatten(1, size)
    return image.repeat_interleave(grid.height // size[0], 1).repeat_interleave(grid.width // size[1], 2).flatten(1)


def patches_of(units: Tensor, size: tuple[int, int], grid: Grid) -> Tensor:
    """The patches of `grid` (B, K) in units (B, U) out of rows and columns `size`, unit by unit."""
    rows, columns = grid.height // size[0], grid.width // size[1]
    first = units // size[1] * (rows * grid.width) + units % size[1] * columns
    inside = torch.arange(rows, device=units.device)[:, None] * grid.width + torch.arange(columns, device=units.device)
    return (first[:, :, None] + inside.flatten()).flatten(1)
