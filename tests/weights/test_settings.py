"""A publisher's settings against a spec: where they contradict, the edits that make them agree are told."""

from __future__ import annotations

import pytest

from metablocks.core.errors import InputError
from metablocks.plan import plan
from metablocks.spec import read
from metablocks.weights import contradictions, meta_mae, sail_sg, timm


def needed(publisher, source, *edits):
    spec = read(source, edits)
    made = contradictions(publisher, spec.resolved())
    agreed = read(source, [*edits, *made])
    plan(agreed)
    assert contradictions(publisher, agreed.resolved()) == [], "the edits that were told are enough"
    return made


@pytest.mark.parametrize(
    ("publisher", "name"),
    [
        (timm.VIT, "vit_b16"),
        (timm.MIXER, "mixer_b16"),
        (timm.SWIN, "swin_t"),
        (sail_sg.POOLFORMER, "poolformer_s12"),
        (sail_sg.POOLFORMER, "metaformer_ppaa_s12"),
        (meta_mae.MAE, "mae_vit_b16"),
    ],
)
def test_the_shipped_specs_have_the_settings_of_their_publishers(publisher, name):
    assert needed(publisher, name) == []


def test_timm_pools_before_the_norm_of_poolformer():
    assert needed(timm.POOLFORMER, "poolformer_s12") == [
        "head.norm=none",
        "head.pool_norm={layer_norm: {eps: 1e-6}}",
    ]


def test_a_vit_with_a_norm_after_pooling_changes_the_head():
    assert needed(timm.VIT_FC_NORM, "vit_b16") == [
        "head.norm=none",
        "head.pool=mean",
        "head.pool_norm={layer_norm: {eps: 1e-6}}",
    ]


def test_another_eps_and_another_activation_are_told():
    edits = ["block.norm=layer_norm", "block.mlp={ratio: 4, activation: gelu_tanh}"]
    assert needed(timm.VIT, "vit_b16", *edits) == ["block.norm={layer_norm: {eps: 1e-6}}", "block.mlp.activation=gelu"]


def test_a_stage_that_replaces_a_key_of_the_block_is_looked_at_itself():
    edits = ["stages.1.norm={layer_norm: {eps: 1e-3}}", "stages.2.mlp={ratio: 4, activation: relu}"]
    assert needed(timm.SWIN, "swin_t", *edits) == [
        "stages.1.norm={layer_norm: {eps: 1e-5}}",
        "stages.2.mlp.activation=gelu",
    ]


def test_both_stacks_of_a_masked_autoencoder_are_looked_at():
    edits = ["decoder.norm=layer_norm", "decoder.stages.0.norm=layer_norm", "mask.tokens=replace"]
    assert needed(meta_mae.MAE, "mae_vit_b16", *edits) == [
        "decoder.stages.0.norm={layer_norm: {eps: 1e-6}}",
        "mask.tokens=drop",
        "decoder.norm={layer_norm: {eps: 1e-6}}",
    ]


def test_the_kind_of_norm_is_left_to_the_spec_where_names_do_not_show_it():
    for norm in ("layer_norm", "group_norm"):
        edits = [f"block.norm={{{norm}: {{eps: 0.1}}}}"]
        assert needed(sail_sg.POOLFORMER, "poolformer_s12", *edits) == [f"block.norm.{norm}.eps=1e-5"]


def test_a_list_of_mixers_is_looked_at_item_by_item():
    mixers = "block.mixer=[{spatial_mlp: {ratio: 0.5}}, {spatial_mlp: {ratio: 0.5, activation: relu}}]"
    assert needed(timm.MIXER, "mixer_b16", mixers) == ["block.mixer.1.spatial_mlp.activation=gelu"]


def test_weights_of_another_kind_of_network_have_no_settings_to_agree_on():
    with pytest.raises(InputError, match="and the spec mixes by `pooling`"):
        contradictions(timm.VIT, read("poolformer_s12").resolved())


def test_implied_settings_are_paths_and_values_of_the_language():
    assert ("head.pool_norm", {"layer_norm": {"eps": 1e-6}}) in timm.POOLFORMER.settings
