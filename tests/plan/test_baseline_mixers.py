"""Sizes of the mixers of the MetaFormer baselines, and what does not fit in words."""

import pytest

import metablocks as mb

NET = """
net: classifier
image: {size: 32}
classes: 2
stem: {patch_embed: {patch: 4}}
block: {norm: layer_norm, mlp: none}
stages: [{dim: 20, depth: 1, mixer: MIXER}]
head: {pool: mean}
"""


def sizes(mixer, **edits):
    return mb.plan(NET.replace("MIXER", mixer), set=edits).stages[0].blocks[0].kind.mixer.sizes


def refused(mixer, **edits):
    with pytest.raises(mb.SpecError) as caught:
        mb.plan(NET.replace("MIXER", mixer), set=edits)
    return str(caught.value)


def test_the_heads_of_an_attention_need_not_fill_the_width():
    found = sizes("{attention: {head_dim: 8, width: 16}}")
    assert (found.heads, found.head_dim, found.dim) == (2, 8, 20)
    assert sizes("{attention: {heads: 3, width: 96}}").head_dim == 32
    assert sizes("{attention: {heads: 4}}").head_dim == 5


def test_heads_that_do_not_fill_the_width_that_is_given_are_refused():
    assert "a head_dim of 8 does not divide the width 20" in refused("{attention: {head_dim: 8}}")
    assert "a head_dim of 8 does not divide the width 12" in refused("{attention: {head_dim: 8, width: 12}}")


def test_a_separable_convolution_is_twice_as_wide_unless_told_otherwise():
    assert [sizes(f"{{separable_conv: {keys}}}").hidden for keys in ("{}", "{ratio: 1.5}", "{hidden: 7}")] == [
        40,
        30,
        7,
    ]


def test_a_separable_convolution_takes_one_of_ratio_and_hidden_and_an_odd_kernel():
    assert "separable_conv takes `ratio` or `hidden`, not both" in refused("{separable_conv: {ratio: 2, hidden: 7}}")
    assert "a ratio of 0.33 of width 20 is 6.6 hidden channels" in refused("{separable_conv: {ratio: 0.33}}")
    assert "odd" in refused("{separable_conv: {kernel: 4}}")


def test_random_mixing_is_planned_for_the_tokens_of_its_grid():
    assert sizes("random_mixing").tokens == 64
    assert sizes("random_mixing", **{"image.size": [32, 64], "prefix": ["class"]}).tokens == 129
    told = refused("random_mixing", **{"image.size": 1024, "stem.patch_embed.patch": 4})
    assert "random_mixing on 65,536 tokens holds 4,294,967,296 weights" in told
    assert "at most 1,073,741,824" in told


def test_a_hidden_layer_of_the_head_is_checked_like_an_mlp():
    edits = {"head": {"mlp": {"ratio": 0.33}}}
    assert "a ratio of 0.33 of width 20 is 6.6 hidden channels" in refused("identity", **edits)
    edits = {"head": {"mlp": {"ratio": 1, "norm": {"group_norm": {"groups": 3}}}}}
    assert "3 groups do not divide the width 20" in refused("identity", **edits)
    assert "mlp of the head" in refused("identity", head={"mlp": {"ratio": 1, "activatoin": "gelu"}})
