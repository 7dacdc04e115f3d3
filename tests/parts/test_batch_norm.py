"""Batch norm over tokens: torch's own over (B, C, N), in training and at rest."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metablocks.build import materialise
from metablocks.parts.norm import BatchNorm


@pytest.mark.parametrize("affine", [True, False])
def test_it_is_the_batch_norm_of_torch_with_tokens_in_the_place_of_positions(affine):
    ours, theirs = BatchNorm(affine=affine, eps=1e-6).build(6), nn.BatchNorm1d(6, eps=1e-6, affine=affine)
    for _ in range(3):
        x = torch.randn(4, 5, 6) * 3 + 1
        torch.testing.assert_close(ours(x), theirs(x.mT).mT)
    ours.eval(), theirs.eval()
    x = torch.randn(4, 5, 6)
    torch.testing.assert_close(ours(x), theirs(x.mT).mT)
    theirs_state = theirs.state_dict()
    del theirs_state["num_batches_tracked"]
    assert ours.state_dict().keys() == theirs_state.keys()


def test_its_statistics_start_at_rest_when_it_is_made_on_meta():
    with torch.device("meta"):
        norm = BatchNorm().build(6)
    materialise(norm, torch.device("cpu"))
    norm.reset_parameters()
    x = torch.randn(2, 3, 6)
    torch.testing.assert_close(norm.eval()(x), x, rtol=1e-4, atol=1e-4)
