"""Random networks, over all mixers and parts: they run, train, compile, and cost what both counters say."""

from __future__ import annotations

import json
from math import prod

import pytest
import torch
from hypothesis import assume, given, settings
from strategies import networks

import metablocks as mb
from metablocks.costs.second import count_again

pytest.importorskip("fvcore", reason="fvcore, the second counter, is not installed")


def inputs(plan, batch):
    stem = plan.encoder.stem
    images = torch.randn(batch, stem.channels, *stem.image)
    if plan.decoder is None:
        return (images,)
    height, width = plan.decoder.mask.units
    return images, torch.rand(batch, height * width)


@settings(max_examples=15, derandomize=True)
@given(networks)
def test_any_network_trains_compiles_and_is_counted_alike_by_both(data):
    text = json.dumps(data)
    plan = mb.plan(text)
    assume(plan.decoder is None or prod(plan.decoder.mask.patch) * plan.encoder.stem.channels > 1)  # has no variance
    torch.manual_seed(0)
    model = mb.build(text)
    given = inputs(plan, 2)
    tensors = torch.utils._pytree.tree_leaves(model.train()(*given))
    sum(one.sum() for one in tensors if one.requires_grad).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    torch._dynamo.reset()
    compiled = mb.build(text, compile="block", backend="aot_eager")
    compiled.load_state_dict(model.state_dict())
    with torch.inference_mode():
        found, expected = compiled(*given), model.eval()(*given)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert count_again(model, inputs(plan, 1)) == plan.costs.total
