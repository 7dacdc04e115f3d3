"""A lean call of a masked autoencoder: the same loss and gradients from visible patches embedded, masked predicted."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

import metablocks as mb
from metablocks.costs.run import count_module

DROP = """
net: masked_autoencoder
image: {size: [16, 32]}
mask: {ratio: 0.75}
block: {norm: layer_norm, mixer: {attention: {heads: 2}}, mlp: {ratio: 2}}
encoder: {stem: STEM, prefix: [class], position: learned, stages: [{dim: 16, depth: 2}], norm: layer_norm}
decoder: {position: learned, stages: [{dim: 8, depth: 1}], norm: NORM}
target: {pixels: {normalize: patch}}
"""
REPLACE = """
net: masked_autoencoder
image: {size: [16, 32]}
mask: {ratio: 0.6, tokens: replace, unit: 8}
block: {norm: layer_norm, mixer: {attention: {heads: 2}}, mlp: {ratio: 2}}
encoder: {stem: STEM, position: learned, stages: [{dim: 16, depth: 2}], norm: layer_norm}
decoder: {stages: [{dim: 16, depth: 1}], norm: NORM}
"""
PATCHES, OVERLAPPING = "{patch_embed: {patch: 4}}", "{conv_embed: {kernel: 7, stride: 4, padding: 2}}"
OVER_TOKENS = "{patch_embed: {patch: 4, norm: group_norm}}"
texts = pytest.mark.parametrize(
    "text",
    [
        kind.replace("STEM", stem).replace("NORM", norm)
        for kind in (DROP, REPLACE)
        for stem, norm in [(PATCHES, "layer_norm"), (OVERLAPPING, "layer_norm"), (OVER_TOKENS, "group_norm")]
    ],
    ids=[f"{kind}, {stem}" for kind in ("drop", "replace") for stem in ("patches", "overlapping", "over tokens")],
)


def build(text: str, **how):
    torch.manual_seed(0)
    model = mb.build(text, **how)
    units = model.plan.decoder.mask.units
    return model, (torch.randn(2, 3, 16, 32), torch.rand(2, units[0] * units[1]))


def gradients(model, loss) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


@texts
def test_the_loss_and_its_gradients_are_those_of_a_call_for_everything(text):
    model, given = build(text, dtype="float64")
    given = tuple(one.double() for one in given)
    full, lean = model(*given), model(*given, lean=True)
    torch.testing.assert_close(lean.loss, full.loss, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(lean[2:], full[2:], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(gradients(model, lean.loss), gradients(model, full.loss), atol=1e-12, rtol=1e-9)


@texts
def test_its_predictions_are_those_of_the_masked_patches(text):
    model, given = build(text)
    with torch.no_grad():
        full, lean = model(*given), model(*given, lean=True)
    height, width = model.plan.encoder.stages[-1].grid.height, model.plan.encoder.stages[-1].grid.width
    side = model.plan.decoder.mask.units
    of_unit = torch.arange(side[0] * side[1]).view(1, *side).repeat_interleave(height // side[0], 1)
    of_unit = of_unit.repeat_interleave(width // side[1], 2).flatten()
    for image in range(2):
        order = full.ids_restore[image].argsort()[model.plan.decoder.mask.kept :]
        ids = torch.cat([(of_unit == unit).nonzero().flatten() for unit in order])
        torch.testing.assert_close(lean.pred[image], full.pred[image, ids], atol=1e-6, rtol=1e-5)


@texts
@pytest.mark.parametrize("how", ["block", "model"])
def test_compiled_it_is_the_same(text, how):
    torch._dynamo.reset()
    model, given = build(text)
    compiled = mb.build(text, model.state_dict(), compile=how, backend="aot_eager")
    found, expected = compiled(*given, lean=True), model(*given, lean=True)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    far = gradients(compiled, found.loss), gradients(model, expected.loss)
    torch.testing.assert_close(*far, atol=1e-6, rtol=1e-4)


def test_visible_patches_alone_are_embedded_and_masked_ones_alone_are_predicted():
    text = DROP.replace("STEM", PATCHES).replace("NORM", "layer_norm")
    plan = mb.plan(text)
    model, given = build(text)
    stem, predict = 4 * 4 * 3 * 16, 8 * 4 * 4 * 3  # of one patch
    full = count_module(model, [one[:1] for one in given]).macs
    assert full == plan.macs
    lean = count_module(Lean(model), [one[:1] for one in given]).macs
    assert full - lean == 24 * stem + (1 + 8) * predict  # 8 of 32 patches are visible


class Lean(torch.nn.Module):
    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images, noise):
        return self.model(images, noise, lean=True)


def test_a_copy_of_a_network_runs_on_its_own_parts():
    model, given = build(DROP.replace("STEM", PATCHES).replace("NORM", "layer_norm"))
    expected, copied = model(*given), deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    torch.testing.assert_close(copied(*given), expected)
    assert set(copied.state_dict()) == set(model.state_dict())
    assert not [name for name in model.state_dict() if "joints" in name]


def test_pixels_of_masked_patches_are_not_looked_at_by_the_encoder():
    model, (images, noise) = build(DROP.replace("STEM", PATCHES).replace("NORM", "layer_norm"))
    hidden = model(images, noise).mask.view(2, 1, 4, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    spoilt = torch.where(hidden > 0, torch.nan, images)
    assert torch.equal(model(spoilt, noise, lean=True).latent, model(images, noise, lean=True).latent)


def test_ids_are_the_inverse_of_a_stable_order_also_where_noise_is_equal():
    model, (images, _) = build(DROP.replace("STEM", PATCHES).replace("NORM", "layer_norm"))
    noise = torch.tensor([3, 1, 1, 2] * 8).float().expand(2, 32)
    order = sorted(range(32), key=lambda unit: noise[0, unit].item())
    restore = model(images, noise).ids_restore[0]
    assert restore.tolist() == [order.index(unit) for unit in range(32)]
    assert torch.equal(restore, noise[0].argsort(stable=True).argsort())


def test_in_bfloat16_and_under_autocast_the_loss_is_near():
    text = DROP.replace("STEM", PATCHES).replace("NORM", "layer_norm")
    model, (images, noise) = build(text)
    expected = model(images, noise).loss
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(images, noise, lean=True)
    assert mixed.loss.dtype == torch.float32
    half = mb.build(text, model.state_dict(), dtype="bfloat16")(images.bfloat16(), noise, lean=True)
    for found in (mixed.loss, half.loss):
        torch.testing.assert_close(found.float(), expected, atol=0, rtol=0.02)


@pytest.mark.parametrize("compile", ["none", "block"])
def test_a_module_in_the_place_of_another_is_the_one_that_runs(compile):
    torch._dynamo.reset()
    model, given = build(DROP.replace("STEM", PATCHES).replace("NORM", "layer_norm"), compile=compile, backend="eager")
    before = model(*given).pred
    model.decoder.predict = torch.nn.Linear(8, before.shape[2], bias=False)
    torch.nn.init.zeros_(model.decoder.predict.weight)
    assert before.abs().sum() > 0
    assert model(*given).pred.abs().sum() == 0
