"""The masked autoencoder: He et al. 2021, arXiv:2111.06377, section 3; with tokens replaced: SimMIM, arXiv:2111.09886.

Letters: B batch, N patches, K of them masked, U masked units, V values of a patch (rows, columns, channels), C width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from metablocks.core.errors import Fault, InputError
from metablocks.core.grid import Grid
from metablocks.nets.masking import Fill, Hide, Predict, View, target
from metablocks.nets.network import Network
from metablocks.nets.parts import Embedding, Method, module
from metablocks.nets.stack import Encoder, Stage, between, fitted, follow, run
from metablocks.parts.position import MaskToken
from metablocks.plan.nouns import DecoderPlan, MaskPlan, Plan, visible


class Reconstruction(NamedTuple):
    """What a masked autoencoder returns."""

    loss: Tensor
    """Mean squared error over the masked patches, a scalar."""
    pred: Tensor
    """(B, N, V): the prediction for every patch. (B, K, V) of a lean call: for the masked ones, in shuffled order."""
    mask: Tensor
    """(B, N): 1 where the patch was masked, 0 where it was visible."""
    latent: Tensor
    """(B, M, C): the encoder's tokens after its norm, prefix tokens first, then the patches.

    Those that were kept, in shuffled order; where masked ones are replaced, all of them in place.
    """
    ids_restore: Tensor
    """(B, U): where each unit went in the shuffled order."""


class Joints(NamedTuple):
    """The parts around the blocks. No module of the network: they borrow what they are made of."""

    hide: Hide
    fill: Fill
    predict: Predict


class MaskedAutoencoder(Network):
    mask_token: MaskToken
    training_options: ClassVar[Mapping[str, Any]] = {"lean": True}

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        assert plan.decoder is not None and plan.norm is not None
        self.mask: MaskPlan = plan.decoder.mask
        self.encoder = Encoder(plan.encoder)
        self.norm = module(plan.norm)
        self.decoder = Decoder(plan.decoder)
        self.mask_token = module(plan.decoder.mask)  # type: ignore[assignment]
        encoder, decoder, drops = self.encoder, self.decoder, self.mask.tokens == "drop"
        self.joints = Joints(
            Hide(encoder.stem, encoder.embedding, self.mask_token, drops),
            Fill(self.norm, decoder.embed, decoder.embedding, self.mask_token, drops),
            Predict(decoder.norm, decoder.predict, self.mask),
        )

    def once(self) -> list[Method]:
        return [
            *((joint, "forward") for joint in self.joints),
            *between(self.encoder.stages),
            *between(self.decoder.stages),
        ]

    def forward(self, images: Tensor, noise: Tensor | None = None, lean: bool = False) -> Reconstruction:
        """Images (B, channels, H, W) and noise (B, U), whose smallest values stay visible, to a `Reconstruction`.

        Every patch is embedded and predicted, as the original does and as its costs are told. A `lean` call embeds
        only the visible ones, where the encoder takes only these, and predicts only the masked ones: the same loss for
        less, through which alone gradients flow. Raises `InputError` for images, or noise, that it cannot take.
        """
        self._lend()
        view, encoded, decoded = self._view(images)
        units = prod(view.units)
        if noise is None:
            noise = torch.rand(images.shape[0], units, device=images.device)
        if noise.shape != (images.shape[0], units):
            given, wanted = " x ".join(map(str, noise.shape)), f"{images.shape[0]} x {units}"
            raise InputError(Fault(f"noise of {given}, where these images take {wanted}", help="leave it out"))
        tokens, order, restore = self.joints.hide(images, noise, view, lean)
        tokens = run(self.encoder.stages, tokens, encoded)
        latent, tokens = self.joints.fill(tokens, restore, view, lean)
        tokens = run(self.decoder.stages, tokens, decoded)
        loss, pred, mask = self.joints.predict(tokens, images, order, restore, view, lean)
        return Reconstruction(loss, pred, mask, latent, restore)

    def admit(self, images: Tensor) -> None:
        self._view(images)

    def _lend(self) -> None:
        """Gives the joints the modules that the network has now: someone may have put others in their places."""
        encoder, decoder, (hide, fill, predict) = self.encoder, self.decoder, self.joints
        token = {"mask_token": self.mask_token}
        loans = (
            (hide, {"stem": encoder.stem, "embedding": encoder.embedding} | token),
            (fill, {"norm": self.norm, "embed": decoder.embed, "embedding": decoder.embedding} | token),
            (predict, {"norm": decoder.norm, "predict": decoder.predict}),
        )
        for joint, modules in loans:
            for name, lent in modules.items():
                if getattr(joint, name) is not lent:
                    setattr(joint, name, lent)

    def target(self, images: Tensor) -> Tensor:
        """Images to the values of their patches (B, N, V), each patch normalised where the spec says so."""
        return target(images, self.mask)

    def _view(self, images: Tensor) -> tuple[View, list[Grid], list[Grid]]:
        """What is masked, and the grids through encoder and decoder, what enters first. Raises `InputError`."""
        size, planned = self.encoder.size(images), self.plan.encoder.stem.image

        def find() -> tuple[View, list[Grid], list[Grid]]:
            stem = self.encoder.stem_grid(size)
            entering = self.mask.entering(stem)
            encoded = [entering, *follow(self.encoder.stages, entering)]
            out = replace(encoded[-1], kept=None)
            units = self.mask.squares(size, stem, out)
            decoded = [out, *follow(self.decoder.stages, out, "decoder.stages")]
            return View(stem, out, units, visible(prod(units), self.mask.ratio)), encoded, decoded

        return fitted(size, planned, find)


class Decoder(nn.Module):
    """The modules of the decoder: the embedding of the latent, stages, norm and prediction."""

    embedding: Embedding

    def __init__(self, plan: DecoderPlan) -> None:
        super().__init__()
        self.embed = module(plan.embed)
        self.embedding = module(plan.embedding)  # type: ignore[assignment]
        self.stages = nn.ModuleList(Stage(stage) for stage in plan.stages)
        self.norm = module(plan.norm)
        self.predict = module(plan.predict)
