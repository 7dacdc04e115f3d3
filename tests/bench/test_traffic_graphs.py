"""Compiled block by block, a network leaves nothing to run between its graphs."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES

import metablocks as mb
from metablocks.bench.traffic import BATCH
from metablocks.bench.traffic.count import Moved, moved
from metablocks.build import compile_network, skeleton
from metablocks.compiler import Choices


def count(name: str, mode: str = "infer") -> Moved:
    plan = mb.plan(FAMILIES[name])
    stem = plan.encoder.stem
    inputs = [torch.empty(BATCH, stem.channels, *stem.image, device="meta")]
    if plan.decoder:
        units = plan.decoder.mask.units
        inputs.append(torch.empty(BATCH, units[0] * units[1], device="meta"))
    model = skeleton(plan)
    choices = Choices(device=torch.device("cuda"))
    return moved(model, inputs, mode, lambda backend: compile_network(model, "block", backend, choices=choices))


# prefix tokens and positions, positions before a later stage, masking and unshuffling
@pytest.mark.parametrize("name", ["vit", "metaformer hybrid", "masked autoencoder"])
def test_no_operation_runs_outside_of_the_graphs(name: str) -> None:
    assert count(name).eager == 0


def test_nothing_but_the_seed_of_the_gradient_runs_outside_where_a_masked_autoencoder_trains() -> None:
    outside = [row.name for row in count("masked autoencoder", "pretrain").rows if row.kind == "eager"]
    assert outside == ["ones_like"]
