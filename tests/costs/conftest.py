"""Networks of each family, and a cache of counts that no other test sees."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES

import metablocks as mb
from metablocks.build import build


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES.keys())
def family(request):
    """The plan of a small network, one of each family."""
    return mb.plan(request.param)


@pytest.fixture
def inputs_of():
    """Inputs of batch 1 for the network of a plan: an image, and for a masked autoencoder the noise."""

    def made(plan):
        stem = plan.encoder.stem
        shapes = [(stem.channels, *stem.image)]
        if plan.decoder:
            shapes.append((plan.decoder.mask.units[0] * plan.decoder.mask.units[1],))
        return [torch.rand(1, *shape) for shape in shapes]

    return made


@pytest.fixture
def network(family):
    """The network of `family` with values, on the CPU."""
    return build(family)
