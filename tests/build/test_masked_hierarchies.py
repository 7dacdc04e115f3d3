"""Masked pretraining in the manner of SimMIM (Xie et al. 2021, arXiv:2111.09886) with the stages of shipped networks.

Masked patches are replaced, so that mixers which need the whole grid see all of it.
"""

from __future__ import annotations

import json

import pytest
import torch

import metablocks as mb
from metablocks.core.shipped import shipped_path
from metablocks.spec.source import read_source
from metablocks.spec.syntax import parse
from metablocks.spec.tree import plain

NAMES = ("caformer_s18", "swin_t")


def masked(name, size, tokens="replace"):
    """The stages of a shipped classifier, narrower and one or two blocks deep, as a masked autoencoder."""
    spec = plain(parse(read_source(shipped_path(name))))
    stages = [
        {**stage, "dim": 32 * (index + 1), "depth": min(stage["depth"], 2)}
        for index, stage in enumerate(spec["stages"])
    ]
    encoder = {key: spec[key] for key in ("stem", "downsample")} | {"stages": stages, "norm": "layer_norm"}
    # SimMIM predicts by one layer; the block before it shows that there may be some
    return {
        "net": "masked_autoencoder",
        "image": {"size": size, "channels": 3},
        "mask": {"ratio": 0.6, "tokens": tokens, "unit": 32},
        "block": spec["block"],
        "encoder": encoder,
        "decoder": {"stages": [{"dim": 32, "depth": 1, "mixer": {"attention": {"head_dim": 32}}}]},
        "init": spec["init"],
    }


def build(name, size):
    torch.manual_seed(0)
    return mb.build(json.dumps(masked(name, size)))


@pytest.mark.parametrize("size", [[224, 224], [224, 448]], ids=["square", "wide"])
@pytest.mark.parametrize("name", NAMES)
def test_masked_squares_are_predicted_and_everything_learns(name, size):
    net = build(name, size).train()
    units = size[0] // 32 * size[1] // 32
    out = net(torch.randn(2, 3, *size))
    assert out.pred.shape == (2, units, 32 * 32 * 3)
    assert out.mask.sum(1).tolist() == [units - int(units * 0.4)] * 2
    assert out.latent.shape == (2, units, 128)
    out.loss.backward()
    still = [n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)]
    assert still == []


@pytest.mark.parametrize("name", NAMES)
def test_what_is_masked_is_not_seen(name):
    net = build(name, [224, 448])
    images, noise = torch.randn(1, 3, 224, 448), torch.rand(1, 98)
    with torch.inference_mode():
        first = net(images, noise)
        hidden = first.mask.view(1, 1, 7, 14).repeat_interleave(32, 2).repeat_interleave(32, 3)
        # the stem of caformer overlaps: pixels at the edge of a masked square lie in tokens that are seen as well
        inner = torch.nn.functional.max_pool2d(1 - hidden, 9, 1, 4) == 0
        second = net(torch.where(inner, 3 * images, images), noise)
    torch.testing.assert_close(second.pred, first.pred)
    assert second.loss > 2 * first.loss, "and yet it is what is predicted"


@pytest.mark.parametrize("name", NAMES)
def test_masked_pretraining_reduces_its_loss(name):
    net = build(name, [64, 128] if name == "caformer_s18" else [224, 448]).train()
    size = net.plan.encoder.stem.image
    images = torch.linspace(0, 2, size[1]).expand(2, 3, *size).contiguous()
    noise = torch.rand(2, size[0] // 32 * size[1] // 32)
    optimiser = torch.optim.AdamW(net.parameter_groups(0.0), lr=5e-3)
    losses = []
    for _ in range(8):
        loss = net(images, noise).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_dropping_patches_is_refused_with_the_way_out(name):
    with pytest.raises(mb.SpecError, match="needs every token of its grid") as caught:
        mb.plan(json.dumps(masked(name, [224, 448], tokens="drop")))
    assert "or `mask: {tokens: replace}`" in str(caught.value)
