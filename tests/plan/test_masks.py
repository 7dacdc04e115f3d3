"""What a masked autoencoder hides, and what its encoder and decoder see."""

import pytest

import metablocks as mb
from metablocks.core.grid import Grid

MAE = """
net: masked_autoencoder
image: {size: 20}
mask: {ratio: 0.75}
block: {norm: layer_norm, mlp: {ratio: 2}}
encoder:
  stem: {patch_embed: {patch: 4}}
  stages: [{dim: 16, depth: 2, mixer: {attention: {head_dim: 8}}}]
decoder:
  stages: [{dim: 8, depth: 1, mixer: {attention: {head_dim: 8}}}]
"""
SWIN = """
net: masked_autoencoder
image: {size: [32, 64]}
mask: {ratio: 0.6, tokens: replace, unit: 16}
block:
  norm: layer_norm
  mixer:
    - window_attention: {window: 4, head_dim: 8}
    - window_attention: {window: 4, head_dim: 8, shift: half}
  mlp: {ratio: 2}
encoder:
  stem: {patch_embed: {patch: 2}}
  downsample: patch_merging
  stages: [{dim: 8, depth: 2}, {dim: 16, depth: 2}]
  norm: layer_norm
decoder:
  stages: [{dim: 24, depth: 2}]
"""


@pytest.mark.parametrize(
    ("side", "ratio", "kept"),
    [(20, 0.8, 4), (20, 0.75, 6), (20, 0.5, 12), (56, 0.75, 49), (8, 0.75, 1), (8, 0.01, 3), (40, 0.99, 1)],
)
def test_the_encoder_keeps_as_many_patches_as_the_original(side, ratio, kept):
    plan = mb.plan(MAE, set={"image.size": side, "mask.ratio": ratio})
    length = (side // 4) ** 2
    assert kept == int(length * (1 - ratio))
    assert plan.decoder.mask.kept == plan.stages[0].grid.kept == kept


def test_the_encoder_sees_the_kept_patches_and_the_decoder_all_of_them():
    plan = mb.plan(MAE, set={"image": {"size": [20, 40], "channels": 2}, "encoder.prefix": ["class"]})
    assert plan.stages[0].grid == Grid(5, 10, prefix=1, kept=12)
    assert plan.encoder.embedding.grid == Grid(5, 10, prefix=1)
    assert plan.decoder.stages[0].grid == plan.decoder.embedding.grid == Grid(5, 10, prefix=1)
    assert (plan.decoder.embed.dims, plan.decoder.predict.dims) == ((16, 8), (8, 4 * 4 * 2))
    assert (plan.decoder.mask.patch, plan.decoder.mask.units, plan.decoder.mask.dim) == ((4, 4), (5, 10), 8)


def test_replaced_tokens_leave_the_grid_whole_and_carry_the_encoder_width():
    plan = mb.plan(MAE, set={"mask.tokens": "replace", "encoder.stages.0.mixer": "pooling"})
    assert plan.stages[0].grid == Grid(5, 5)
    assert (plan.decoder.mask.tokens, plan.decoder.mask.dim) == ("replace", 16)


def test_a_unit_hides_squares_of_several_tokens_in_front_of_windows():
    plan = mb.plan(SWIN)
    mask = plan.decoder.mask
    assert [stage.grid for stage in plan.stages] == [Grid(16, 32), Grid(8, 16)]
    assert (mask.units, mask.side, mask.patch, mask.kept) == ((2, 4), (8, 8), (4, 4), 3)
    assert plan.decoder.predict.dims == (24, 4 * 4 * 3)


def test_without_a_unit_one_token_of_the_decoder_is_hidden_at_a_time():
    mask = mb.plan(SWIN, set={"mask": {"ratio": 0.6, "tokens": "replace"}}).decoder.mask
    assert (mask.units, mask.side, mask.patch) == ((8, 16), (2, 2), (4, 4))


def test_the_decoder_drops_no_paths():
    plan = mb.plan(MAE, set={"drop_path": 0.2})
    assert [block.drop_path for block in plan.stages[0].blocks] == [0.0, 0.2]
    assert [block.drop_path for block in plan.decoder.stages[0].blocks] == [0.0]


def test_a_stem_grid_that_the_masked_squares_do_not_tile_is_refused():
    edits = {
        "image.size": 58,
        "mask": {"ratio": 0.5, "tokens": "replace"},
        "encoder.stem": {"conv_embed": {"kernel": 2, "stride": 1}},
        "encoder.downsample": {"conv": {"kernel": 3, "stride": 2, "padding": 1}},
        "encoder.stages": [{"dim": 8, "depth": 1, "mixer": "pooling"}] * 2,
    }
    with pytest.raises(mb.SpecError, match="29 x 29 masked squares do not tile the stem's 57 x 57 tokens"):
        mb.plan(MAE, set=edits)
