"""Plans to modules."""

from __future__ import annotations

from collections.abc import Iterator

from metablocks.nets.classifier import Classifier
from metablocks.nets.masked_autoencoder import MaskedAutoencoder, Reconstruction
from metablocks.nets.network import Network
from metablocks.nets.stack import Stage
from metablocks.parts.block import Block
from metablocks.parts.init import initialise
from metablocks.plan import BlockKind, Plan

NETS: dict[str, type[Network]] = {"classifier": Classifier, "masked_autoencoder": MaskedAutoencoder}


def assemble(plan: Plan) -> Network:
    """The module of a plan, with parameters on the current default device and without values worth keeping."""
    return NETS[plan.net](plan)


def blocks(model: Network) -> Iterator[tuple[BlockKind, Block]]:
    """Every block of a network, in order, with what makes it distinct."""
    for module in model.modules():
        if isinstance(module, Stage):
            yield from module.kinds()


__all__ = ["Classifier", "MaskedAutoencoder", "Network", "Reconstruction", "assemble", "blocks", "initialise"]
