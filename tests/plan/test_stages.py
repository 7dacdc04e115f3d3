"""Grids, tiling, overrides, drop rates: what the stages of a plan say."""

import pytest
import torch

import metablocks as mb
from metablocks.core.grid import Grid
from metablocks.parts.norm import GroupNorm, LayerNorm, NoNorm

VIT = """
net: classifier
image: {size: 32}
classes: 10
stem: {patch_embed: {patch: 4}}
block: {norm: layer_norm, mixer: identity, mlp: {ratio: 2}}
stages: [{dim: 8, depth: 4}]
head: {norm: layer_norm}
"""


def grids(plan):
    return [(stage.grid.height, stage.grid.width) for stage in plan.stages]


def names(stage):
    return [block.kind.mixer.name for block in stage.blocks]


def rates(plan):
    return [block.drop_path for stage in plan.stages for block in stage.blocks]


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("vit_b16", [224, 96], [(14, 6)]),
        ("swin_t", [224, 448], [(56, 112), (28, 56), (14, 28), (7, 14)]),
        ("poolformer_s12", [224, 320], [(56, 80), (28, 40), (14, 20), (7, 10)]),
        ("poolformer_s12", [225, 230], [(56, 57), (28, 29), (14, 15), (7, 8)]),
        ("metaformer_ppaa_s12", [64, 32], [(16, 8), (8, 4), (4, 2), (2, 1)]),
        ("mae_vit_b16", [160, 240], [(10, 15)]),
    ],
)
def test_a_grid_has_its_own_height_and_width_in_every_stage(name, size, expected):
    assert grids(mb.plan(name, set={"image.size": size})) == expected


def test_one_number_is_both_sides_and_patches_may_be_wide():
    plan = mb.plan(VIT, set={"image.size": [32, 48], "stem.patch_embed.patch": [8, 4]})
    assert grids(plan) == [(4, 12)]
    assert mb.plan(VIT).stages == mb.plan(VIT, set={"image.size": [32, 32]}).stages


def test_a_list_of_mixers_is_tiled_over_the_depth():
    plan = mb.plan(VIT, set={"block.mixer": ["identity", "pooling"]})
    assert names(plan.stages[0]) == ["identity", "pooling", "identity", "pooling"]


def test_a_list_as_long_as_the_depth_is_taken_as_it_is():
    mixers = ["pooling", "identity", "identity", "pooling"]
    assert names(mb.plan(VIT, set={"block.mixer": mixers}).stages[0]) == mixers


@pytest.mark.parametrize("count", [3, 5, 8])
def test_a_list_that_does_not_fill_the_depth_is_refused(count):
    with pytest.raises(mb.SpecError, match=f"{count} mixers do not tile a depth of 4"):
        mb.plan(VIT, set={"block.mixer": ["identity"] * count})


def test_blocks_that_are_alike_are_of_one_kind():
    plan = mb.plan("swin_t")
    assert [len({block.kind for block in stage.blocks}) for stage in plan.stages] == [2, 2, 2, 1]


def test_a_stage_replaces_a_key_of_the_block_whole():
    edits = {
        "block.norm": {"group_norm": {"groups": 2, "eps": 1e-3}},
        "block.mlp": {"ratio": 2, "activation": "relu"},
        "block.layer_scale": 0.1,
        "stages": [
            {"dim": 8, "depth": 1},
            {"dim": 8, "depth": 1, "norm": "group_norm", "mlp": {"hidden": 5}, "layer_scale": "none"},
            {"dim": 8, "depth": 1, "norm": "none", "mlp": "none", "mixer": "pooling", "order": "post"},
        ],
    }
    first, second, third = (stage.blocks[0].kind for stage in mb.plan(VIT, set=edits).stages)
    assert first.residual.norm == GroupNorm(groups=2, eps=1e-3)
    assert (first.mlp.hidden, first.mlp.activation, first.residual.layer_scale) == (16, "relu", 0.1)
    assert second.residual.norm == GroupNorm()
    assert (second.mlp.hidden, second.mlp.activation, second.residual.layer_scale) == (5, "gelu", None)
    assert third.residual.norm == NoNorm()
    assert (third.mlp, third.mixer.name, third.residual.order) == (None, "pooling", "post")


@pytest.mark.parametrize("depths", [[1], [4], [2, 2, 6, 2], [1, 1]])
def test_the_drop_rate_rises_linearly_over_all_blocks(depths):
    stages = [{"dim": 8, "depth": depth} for depth in depths]
    plan = mb.plan(VIT, set={"stages": stages, "drop_path": 0.3})
    assert rates(plan) == pytest.approx(torch.linspace(0, 0.3, sum(depths)).tolist())
    drops = [any(block.drop_path for block in stage.blocks) for stage in plan.stages]
    assert [stage.blocks[0].kind.residual.drops_path for stage in plan.stages] == drops


def test_the_drop_rate_is_the_same_everywhere_without_a_ramp():
    plan = mb.plan(VIT, set={"drop_path": {"rate": 0.3, "ramp": "none"}})
    assert rates(plan) == [0.3] * 4


def test_blocks_of_one_kind_may_differ_in_their_drop_rate():
    plan = mb.plan(VIT, set={"drop_path": {"rate": 0.3}})
    assert len(set(rates(plan))) == 4
    kinds = {block.kind for block in plan.stages[0].blocks}
    assert len(kinds) == 1


def test_registers_and_the_class_token_stand_before_the_patches_in_their_order():
    edits = {"prefix": [{"registers": {"count": 3}}, "class"], "head.pool": "class"}
    plan = mb.plan(VIT, set=edits)
    assert plan.stages[0].grid == Grid(8, 8, prefix=4)
    assert plan.encoder.embedding.grid == Grid(8, 8, prefix=4)
    assert plan.head.tokens == (3, 4)
    assert mb.plan(VIT, set={**edits, "head.pool": "mean"}).head.tokens == (4, 68)


def test_a_position_belongs_to_its_stage():
    stages = [{"dim": 8, "depth": 1}, {"dim": 16, "depth": 1, "position": "sincos_2d"}]
    plan = mb.plan(VIT, set={"stages": stages, "downsample": "patch_merging", "position": "learned"})
    assert [stage.embedding.position.name for stage in plan.stages] == ["none", "sincos_2d"]
    assert plan.encoder.embedding.position.name == "learned"
    assert (plan.stages[1].embedding.grid, plan.stages[1].embedding.dim) == (Grid(4, 4), 16)


def test_the_downsample_of_a_stage_stands_instead_of_the_common_one():
    conv = {"conv": {"kernel": 4, "stride": 4}}
    stages = [{"dim": 8, "depth": 1, "downsample": "patch_merging"}, {"dim": 16, "depth": 1, "downsample": conv}]
    stages.append({"dim": 16, "depth": 1, "downsample": "none"})
    plan = mb.plan(VIT, set={"stages": stages, "downsample": "patch_merging"})
    assert grids(plan) == [(4, 4), (1, 1), (1, 1)]
    assert [stage.downsample and stage.downsample.dims for stage in plan.stages] == [(8, 8), (8, 16), None]


def test_a_head_may_be_absent():
    plan = mb.plan(VIT, set={"head": "none", "classes": "none"})
    assert plan.head is None
    assert mb.plan(VIT).head.classes == 10
    assert mb.plan(VIT).head.head.norm == LayerNorm()


@pytest.mark.parametrize(("ratio", "dim", "hidden"), [(4, 8, 32), (0.5, 8, 4), (1.1, 10, 11), (2.4, 15, 36)])
def test_the_hidden_width_follows_from_the_ratio_without_errors_of_floats(ratio, dim, hidden):
    plan = mb.plan(VIT, set={"block.mlp.ratio": ratio, "stages.0.dim": dim})
    assert plan.stages[0].blocks[0].kind.mlp.hidden == hidden
