"""A masked autoencoder that was built for one size of image takes others: target, mask and positions follow."""

from __future__ import annotations

import pytest
import torch

import metablocks as mb

DROP = """
net: masked_autoencoder
image: {size: 32}
mask: {ratio: 0.75}
block: {norm: layer_norm, mixer: {attention: {heads: 2}}, mlp: {ratio: 2}}
encoder: {stem: {patch_embed: {patch: 4}}, prefix: [class], position: sincos_2d, stages: [{dim: 16, depth: 2}]}
decoder: {position: sincos_2d, stages: [{dim: 8, depth: 1}], norm: layer_norm}
target: {pixels: {normalize: patch}}
"""
LEARNED = DROP.replace("sincos_2d", "learned")
REPLACE = """
net: masked_autoencoder
image: {size: 32}
mask: {ratio: 0.6, tokens: replace, unit: 8}
block: {norm: layer_norm, mixer: {window_attention: {window: 4, heads: 2, shift: half, pad: true}}, mlp: {ratio: 2}}
encoder:
  stem: {patch_embed: {patch: 2}}
  downsample: patch_merging
  stages: [{dim: 16, depth: 2}, {dim: 32, depth: 1}]
decoder: {stages: [{dim: 32, depth: 1, mixer: {attention: {heads: 2}}}]}
"""
SIZES = [(40, 64), (64, 32), (48, 48), (16, 128)]


def fresh(text: str, **how):
    torch.manual_seed(0)
    return mb.build(text, **how)


def given(height: int, width: int, side: int):
    return torch.randn(2, 3, height, width), torch.rand(2, height // side * (width // side))


class Counting:
    """A compiler that counts the graphs that it is given."""

    graphs = 0

    def __call__(self, graph, _):
        self.graphs += 1
        return graph


@pytest.mark.parametrize("lean", [False, True], ids=["all", "lean"])
@pytest.mark.parametrize(("text", "side"), [(DROP, 4), (REPLACE, 8)], ids=["drop", "replace"])
def test_another_size_is_as_built_for_it(text, side, lean):
    model = fresh(text)
    for height, width in SIZES:
        images, noise = given(height, width, side)
        other = mb.build(text, set={"image.size": [height, width]})
        own = {name: value for name, value in model.state_dict().items() if "position" not in name}
        other.load_state_dict(own, strict=False)
        with torch.no_grad():
            torch.testing.assert_close(model(images, noise, lean), other(images, noise, lean), atol=1e-6, rtol=1e-5)


def test_learned_positions_are_resampled_in_encoder_and_decoder():
    model = fresh(LEARNED)
    other = mb.build(LEARNED, set={"image.size": [40, 64]})
    own = dict(model.state_dict())
    for half in ("encoder", "decoder"):
        position = getattr(model, half).embedding.position
        rows = position.at(position.table[:, 1:], (10, 16))
        own[f"{half}.embedding.position.table"] = torch.cat([position.table[:, :1], rows], 1)
    other.load_state_dict(own)
    images, noise = given(40, 64, 4)
    with torch.no_grad():
        torch.testing.assert_close(model(images, noise), other(images, noise), atol=1e-6, rtol=1e-5)


def test_the_mask_and_the_target_are_those_of_the_grid_at_hand():
    model = fresh(DROP)
    images, noise = given(24, 40, 4)
    out = model(images, noise)
    assert out.pred.shape == (2, 60, 4 * 4 * 3)
    assert out.mask.sum(1).tolist() == [45, 45]
    assert out.latent.shape == (2, 1 + 15, 16)
    first, target = out.mask[0].nonzero()[0].item(), model.target(images)
    row, column = first // 10 * 4, first % 10 * 4
    pixels = images[0, :, row : row + 4, column : column + 4].permute(1, 2, 0).flatten()
    torch.testing.assert_close(target[0, first], (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt())
    far = (out.pred - target).square().mean(-1)
    torch.testing.assert_close(out.loss, (far * out.mask).sum() / out.mask.sum())


def test_it_draws_noise_for_the_size_at_hand():
    out = fresh(DROP)(torch.randn(1, 3, 16, 64))
    assert out.ids_restore.shape == (1, 64)
    assert out.loss.isfinite()


@pytest.mark.parametrize(("text", "compile"), [(DROP, "block"), (LEARNED, "model")], ids=["block", "model"])
def test_dynamic_graphs_are_not_compiled_again_for_each_size(text, compile):
    torch._dynamo.reset()
    counting = Counting()
    eager, model = fresh(text), fresh(text, compile=compile, backend=counting, dynamic=True)
    graphs = []
    with torch.inference_mode():
        for height, width in [(32, 32), *SIZES]:
            images, noise = given(height, width, 4)
            found, expected = model(images, noise, lean=True), eager(images, noise, lean=True)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
            graphs.append(counting.graphs)
    assert graphs[1] == graphs[-1]  # the second size, which is not square, is the last to cost one


@pytest.mark.parametrize(
    ("text", "size", "told"),
    [
        (
            DROP,
            (30, 32),
            "where this network was built for 32: stem: a patch of 4 does not tile an image of 30 x 32 px",
        ),
        (DROP, (4, 4), "masking 0.75 of 1 patch leaves 0 visible"),
        (REPLACE, (8, 12), "masked squares of 4 do not tile the stem's 4 x 6 tokens"),
        (
            DROP.replace("{dim: 8, depth: 1}", "{dim: 8, depth: 1, mixer: spatial_mlp}"),
            (64, 32),
            "decoder.stages.0: spatial_mlp has weights for 65 tokens and cannot mix 129",
        ),
        (
            REPLACE.replace("unit: 8", "unit: 4").replace("patch_merging", "{patch_merging: {pad: true}}"),
            (32, 34),
            "a 8 x 9 grid does not divide an image of 32 x 34 px",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_one_sentence(text, size, told):
    with pytest.raises(mb.InputError) as caught:
        mb.build(text)(torch.randn(1, 3, *size))
    assert told in str(caught.value)


def test_images_of_other_channels_and_noise_of_another_grid_are_refused():
    model = fresh(DROP)
    with pytest.raises(mb.InputError, match="images of 1 channels, where this network takes 3"):
        model(torch.randn(1, 1, 32, 32))
    with pytest.raises(mb.InputError, match="noise of 2 x 64, where these images take 2 x 128"):
        model(torch.randn(2, 3, 32, 64), torch.rand(2, 64))
