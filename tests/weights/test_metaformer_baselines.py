"""Checkpoints of the MetaFormer baselines: what sail-sg and timm imply, and what cannot be loaded is told."""

from __future__ import annotations

import pytest
import torch

import metablocks as mb
from metablocks.build import skeleton
from metablocks.core.errors import InputError
from metablocks.core.shipped import shipped_names
from metablocks.plan import plan
from metablocks.spec import read
from metablocks.weights import checkpoint_of, contradictions, convert, recognise, sail_sg, timm

FAMILIES = ("identityformer_", "randformer_", "poolformerv2_", "convformer_", "caformer_")
SHIPPED = [name for name in shipped_names() if name.startswith(FAMILIES)]
NAMES = ("identityformer", "randformer", "poolformerv2", "convformer", "caformer")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_specs_have_the_settings_of_sail_sg(name):
    assert contradictions(sail_sg.BASELINES, read(name).resolved()) == []


def test_timm_norms_the_hidden_layer_of_the_head_with_another_eps():
    assert contradictions(timm.METAFORMER, read("caformer_s18").resolved()) == [
        "head.mlp.norm={layer_norm: {eps: 1e-6}}"
    ]
    assert contradictions(timm.METAFORMER, read("poolformerv2_s12").resolved()) == []


@pytest.mark.parametrize("name", [*NAMES, "timm_poolformerv2", "timm_convformer", "timm_caformer"])
def test_names_tell_the_publisher_and_that_stem_and_downsampling_have_norms(name, cases):
    publisher = recognise(cases[name].state())
    assert publisher.name == (timm.METAFORMER if name.startswith("timm") else sail_sg.BASELINES).name
    edits = ["stages.1.downsample.conv.norm=none", "stem.conv_embed.norm={layer_norm: {eps: 1e-5}}"]
    assert contradictions(publisher, cases[name].edited(*edits).resolved()) == [
        "stem.conv_embed.norm={layer_norm: {eps: 1e-6}}",
        "stages.1.downsample.conv.norm={layer_norm: {eps: 1e-6}}",
    ]


def test_a_head_with_another_activation_is_told():
    made = contradictions(sail_sg.BASELINES, read("convformer_s18", ["head.mlp={ratio: 4}"]).resolved())
    assert made == ["head.mlp.activation=squared_relu", "head.mlp.norm={layer_norm: {eps: 1e-5}}"]


@pytest.mark.parametrize("name", ["caformer", "timm_caformer"])
def test_other_classes_start_the_last_layer_fresh_and_keep_the_hidden_one(name, cases):
    case = cases[name]
    planned = plan(case.edited("classes=3"))
    state = case.state()
    made = convert(checkpoint_of(state), recognise(state), planned, skeleton(planned).state_dict(), fresh_head=True)
    assert made.fresh == ("head.fc.weight", "head.fc.bias")
    hidden = "head.fc.fc1.weight" if name.startswith("timm") else "head.fc1.weight"
    assert torch.equal(made.tensors["head.mlp.fc1.weight"], state[hidden])


def test_a_linear_head_and_one_with_a_hidden_layer_do_not_fit_each_other(cases):
    with pytest.raises(InputError) as caught:
        mb.build(cases["convformer"].edited("head.mlp=none"), weights=cases["convformer"].state())
    told = str(caught.value)
    assert "6 of the 81 tensors of state dict have no place in this network: `head.fc1.bias`, `head.fc1.weight`" in told
    assert "2 of the 77 tensors of this network are not in state dict: `head.weight`, `head.bias`" in told
    assert "no classifier" not in told


def test_a_random_matrix_of_another_image_is_told_with_the_image_that_fits(cases):
    case = cases["randformer"]
    with pytest.raises(InputError) as caught:
        mb.build(case.edited("image.size=[96, 64]"), weights=case.state())
    told = str(caught.value)
    assert "stages.2.0.token_mixer.random_matrix  (16, 16) there, (24, 24) here" in told
    assert told.endswith(
        "help: a random matrix is for one number of tokens, and is not resampled: --set image.size=64 fits the file"
    )


def test_a_network_without_a_random_matrix_takes_any_image(cases):
    for name in ("identityformer", "poolformerv2", "convformer", "caformer"):
        wide = mb.build(cases[name].edited("image.size=[96, 160]"), weights=cases[name].state())
        with torch.inference_mode():
            assert wide(torch.randn(2, 3, 96, 160)).isfinite().all()


def test_the_released_number_of_frozen_parameters_is_counted_beside_the_trained_ones():
    total = mb.plan("randformer_s12").costs.total
    assert (total.params - total.frozen, total.frozen) == (11_891_712, 235_298)


def test_a_fresh_network_starts_from_means_squared_relu_and_whole_residuals():
    torch.manual_seed(0)
    edits = {"stages": [{"dim": 8, "depth": 1}, {"dim": 8, "depth": 1, "mixer": "random_mixing", "res_scale": 1}]}
    net = mb.build("convformer_s18", set={**edits, "image.size": 32})
    values = net.state_dict()
    torch.testing.assert_close(values["encoder.stages.1.blocks.0.mixer.op.matrix"].sum(1), torch.ones(16))
    assert values["encoder.stages.0.blocks.0.mixer.op.activation.scale"] == 1
    assert values["encoder.stages.0.blocks.0.mlp.op.activation.bias"] == 0
    assert (values["encoder.stages.1.blocks.0.mlp.res_scale"] == 1).all()
    convs = [value for name, value in values.items() if name.endswith(("conv.weight", "depthwise.weight"))]
    assert len(convs) == 3
    assert all(0 < weight.std() < 0.03 for weight in convs), "convolutions too are normal of deviation 0.02"


def test_random_matrices_and_scales_train_without_decay_or_not_at_all():
    net = mb.build("randformer_s12", set={"image.size": 64})
    groups = net.parameter_groups(0.05)
    named = {id(parameter): name for name, parameter in net.named_parameters()}
    decayed, spared = ([named[id(parameter)] for parameter in group["params"]] for group in groups)
    assert not [name for name in (*decayed, *spared) if name.endswith("op.matrix")]
    assert [name for name in decayed if "activation" in name or "scale" in name or "norm" in name] == []
    assert "encoder.stages.0.blocks.0.mlp.op.activation.scale" in spared
