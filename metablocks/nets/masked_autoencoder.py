"""The masked autoencoder: He et al. 2021, arXiv:2111.06377, section 3; with tokens replaced: SimMIM, arXiv:2111.09886.

Letters: B batch, N patches, U masked units, V values of a patch (rows, columns, channels), C width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from metablocks.core.errors import Fault, InputError
from metablocks.core.grid import Grid
from metablocks.nets.network import Network
from metablocks.nets.parts import Embedding, module
from metablocks.nets.stack import Encoder, Stage
from metablocks.parts.position import MaskToken
from metablocks.plan.nouns import DecoderPlan, MaskPlan, Plan

EPS = 1e-6
"""Added to the variance of a patch that is normalised; the original's value."""


class Reconstruction(NamedTuple):
    """What a masked autoencoder returns."""

    loss: Tensor
    """Mean squared error over the masked patches, a scalar."""
    pred: Tensor
    """(B, N, V): the prediction for every patch."""
    mask: Tensor
    """(B, N): 1 where the patch was masked, 0 where it was visible."""
    latent: Tensor
    """(B, M, C): the encoder's tokens after its norm, prefix tokens first, then the patches.

    Those that were kept, in shuffled order; where masked ones are replaced, all of them in place.
    """
    ids_restore: Tensor
    """(B, U): where each unit went in the shuffled order."""


class MaskedAutoencoder(Network):
    mask_token: MaskToken

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        assert plan.decoder is not None and plan.norm is not None
        self.mask: MaskPlan = plan.decoder.mask
        self.drops = self.mask.tokens == "drop"
        self.encoder = Encoder(plan.encoder)
        self.norm = module(plan.norm)
        self.decoder = Decoder(plan.decoder)
        self.mask_token = module(plan.decoder.mask)  # type: ignore[assignment]

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Reconstruction:
        """Images (B, channels, H, W) and noise (B, U), whose smallest values stay visible, to a `Reconstruction`."""
        self.admit(images)
        if noise is None:
            units = self.mask.units[0] * self.mask.units[1]
            noise = torch.rand(images.shape[0], units, device=images.device)
        # ONNX has no other sort than its own, in which the first of two equals comes first
        shuffled = noise.argsort(1) if torch.compiler.is_exporting() else noise.argsort(dim=1, stable=True)
        restore = shuffled.argsort(1)
        hidden = (restore >= self.mask.kept).to(images.dtype)
        tokens = self._hide(self.encoder.stem(images), shuffled, hidden)
        latent = self.norm(self.encoder.run(self.encoder.embedding.prepend(tokens)))
        pred = self.decoder(self._fill(self.decoder.embed(latent), restore))
        mask = self._spread(hidden, self.decoder.grid)
        # a sum over a batch overflows half precision
        exact = torch.promote_types(images.dtype, torch.float32)
        loss = ((pred.to(exact) - self.target(images.to(exact))) ** 2).mean(-1)
        return Reconstruction((loss * mask).sum() / mask.sum(dtype=exact), pred, mask, latent, restore)

    def admit(self, images: Tensor) -> None:
        """Raises `InputError` for images of another size than was planned: the mask is a plan."""
        stem = self.plan.encoder.stem
        if tuple(images.shape[1:]) != (stem.channels, *stem.image):
            given = " x ".join(map(str, images.shape))
            wanted = f"B x {stem.channels} x {stem.image[0]} x {stem.image[1]}"
            raise InputError(Fault(f"images of {given}, where this network takes {wanted}", help="set image.size"))

    def target(self, images: Tensor) -> Tensor:
        """Images to the values of their patches (B, N, V), each patch normalised where the spec says so."""
        height, width = self.mask.patch
        patches = images.unflatten(3, (-1, width)).unflatten(2, (-1, height))
        patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        if self.mask.normalize == "patch":
            variance, mean = torch.var_mean(patches, -1, keepdim=True)
            patches = (patches - mean) / (variance + EPS).sqrt()
        return patches

    def _hide(self, patches: Tensor, shuffled: Tensor, hidden: Tensor) -> Tensor:
        """The patches that the encoder sees, with their positions."""
        place = self.encoder.embedding.place
        if self.drops:
            return _take(place(patches), shuffled[:, : self.mask.kept])
        masked = self._spread(hidden, self.plan.encoder.embedding.grid)[..., None]
        return place(self.mask_token(patches, masked))

    def _fill(self, tokens: Tensor, restore: Tensor) -> Tensor:
        """Puts mask tokens where patches were dropped, and all patches back into their places."""
        if not self.drops:
            return tokens
        prefix = self.decoder.grid.prefix
        patches = self.mask_token.append(tokens[:, prefix:], restore.shape[1] - self.mask.kept)
        return torch.cat([tokens[:, :prefix], _take(patches, restore)], 1)

    def _spread(self, units: Tensor, grid: Grid) -> Tensor:
        """One number a unit (B, U) to one number a patch of `grid` (B, N)."""
        rows, columns = grid.height // self.mask.units[0], grid.width // self.mask.units[1]
        image = units.unflatten(1, self.mask.units)
        return image.repeat_interleave(rows, 1).repeat_interleave(columns, 2).flatten(1)


class Decoder(nn.Module):
    """Tokens (B, P + N, C) of the embedded latent to the values of every patch (B, N, V)."""

    embedding: Embedding

    def __init__(self, plan: DecoderPlan) -> None:
        super().__init__()
        self.grid = plan.predict.grid
        self.embed = module(plan.embed)
        self.embedding = module(plan.embedding)  # type: ignore[assignment]
        self.stages = nn.ModuleList(Stage(stage) for stage in plan.stages)
        self.norm = module(plan.norm)
        self.predict = module(plan.predict)

    def forward(self, tokens: Tensor) -> Tensor:
        prefix, patches = tokens[:, : self.grid.prefix], tokens[:, self.grid.prefix :]
        position = self.embedding.position
        if position is not None:
            prefix = position.at_prefix(prefix)
        tokens = torch.cat([prefix, self.embedding.place(patches)], 1)
        for stage in self.stages:
            tokens = stage(tokens)
        return self.predict(self.norm(tokens))[:, self.grid.prefix :]


def _take(tokens: Tensor, ids: Tensor) -> Tensor:
    """Rows `ids` (B, M) of tokens (B, N, C)."""
    return tokens.gather(1, ids[:, :, None].expand(-1, -1, tokens.shape[2]))
