"""Google's checkpoints: settings that they imply, joined projections, the layer that goes with the classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from weights.originals import spec_text

import metablocks as mb
from metablocks.core.errors import InputError
from metablocks.plan import plan
from metablocks.spec import read
from metablocks.weights import contradictions, google, recognise, timm

GELU = "block.mlp.activation=gelu_tanh"


def implied(case, spec):
    return contradictions(recognise(case.state()), spec.resolved())


def test_the_activation_and_what_is_pooled_are_implied_for_a_shipped_spec(cases):
    assert implied(cases["vit_jax_token"], read("vit_b16")) == [GELU]
    assert implied(cases["vit_jax_token_linen"], read("vit_b16")) == [GELU]
    made = implied(cases["vit_jax_gap"], read("vit_b16"))
    assert made == [GELU, "prefix=[]", "head.pool=mean"]
    planned = plan(read("vit_b16", made))
    assert planned.encoder.embedding.grid.tokens == 196


def test_a_token_file_gives_a_network_that_averages_its_class_token_back(cases):
    gap = cases["vit_jax_gap"].spec
    assert implied(cases["vit_jax_token"], gap) == ["prefix=[class]", "head.pool=class"]


def test_the_stem_of_a_hybrid_has_the_eps_and_the_standardisation_of_its_publisher(cases):
    spec = read("vit_r50_b16")
    made = implied(cases["vit_jax_hybrid_resnet"], spec)
    assert made == [
        GELU,
        "stem.resnet_v2.norm={group_norm: {groups: 32, eps: 1e-6}}",
        "stem.resnet_v2.weight_eps=1e-5",
        "stem.resnet_v2.weight_eps_on=deviation",
    ]
    assert implied(cases["timm_vit_hybrid_r"], spec) == []
    back = implied(cases["timm_vit_hybrid_r"], read("vit_r50_b16", made))
    assert "stem.resnet_v2.weight_eps_on=variance" in back
    assert implied(cases["vit_jax_hybrid_stem"], read("vit_b16")) == [GELU]


def test_both_activations_of_a_mixer_are_implied(cases):
    assert implied(cases["mixer_jax"], read("mixer_b16")) == [GELU, "block.mixer.spatial_mlp.activation=gelu_tanh"]


def test_the_two_namings_are_told_apart_from_each_other_and_from_timm(cases):
    found = {
        name: recognise(cases[name].state()).name for name in ("vit_jax_token", "vit_jax_token_linen", "mixer_jax")
    }
    assert list(found.values()) == [google.VIT.name, google.VIT_LINEN.name, google.MIXER.name]
    assert recognise(cases["timm_vit_hybrid_r"].state()).name == timm.VIT.name


@pytest.mark.parametrize("prefix", ["opt/target/", "params/"])
def test_the_prefix_of_a_training_state_is_taken_off(cases, prefix, caplog):
    case = cases["vit_jax_token"]
    mb.build(case.spec, weights={f"{prefix}{name}": tensor for name, tensor in case.state().items()})
    assert f"every name in state dict began with `{prefix}`; it was taken off" in caplog.messages


def test_a_piece_of_the_packed_projection_that_is_missing_is_named_alone(cases):
    case = cases["vit_jax_token"]
    state = case.state()
    name = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/kernel"
    del state[name]
    with pytest.raises(InputError) as caught:
        mb.build(case.spec, weights=state)
    assert f"1 of the 32 tensors of this network is not in state dict: `{name}`\n" in f"{caught.value}\n"


def test_pieces_of_another_width_are_told_as_one(cases):
    case = cases["vit_jax_token"]
    with pytest.raises(InputError) as caught:
        mb.build(case.edited("stages.0.dim=16"), weights=case.path)
    attention = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1"
    assert f"{attention}/{{query,key,value}}" in str(caught.value)


def test_pieces_that_do_not_go_together_are_told_by_their_shapes(cases):
    case = cases["vit_jax_token"]
    state = case.state()
    state["Transformer/encoderblock_0/MultiHeadDotProductAttention_1/key/kernel"] = torch.ones(7, 4, 8)
    with pytest.raises(InputError, match=r"1 tensor has another shape"):
        mb.build(case.spec, weights=state)


def test_a_representation_layer_is_told_with_its_width(cases):
    case = cases["vit_jax_token_repr"]
    with pytest.raises(InputError) as caught:
        mb.build(case.edited("head.representation=none"), weights=case.path)
    assert "help: the file has a representation layer: --set head.representation=24" in str(caught.value)


def test_a_representation_layer_goes_with_the_classifier_where_that_starts_fresh(cases, caplog):
    case = cases["vit_jax_token_repr"]
    text = spec_text(case.entry)
    model = mb.build(text, weights=case.path, set=["head.representation=none"], classes=3)
    assert model.head.representation is None
    assert (
        "2 tensors left out, for which this network has no use: pre_logits/bias, pre_logits/kernel" in caplog.messages
    )
    assert "head.fc.weight and head.fc.bias start fresh: a head for 3 classes" in caplog.messages
    kept = mb.build(text, weights=case.path, classes=3)
    assert torch.equal(kept.head.representation.bias.detach(), case.state()["pre_logits/bias"])


def test_a_mixer_at_another_resolution_is_told_what_it_was_trained_for(cases):
    case = cases["mixer_jax"]
    with pytest.raises(InputError, match="layers along the tokens are made for one number of tokens"):
        mb.build(case.edited("image.size=64"), weights=case.path)


def test_a_released_file_goes_into_a_shipped_spec(tmp_path, caplog):
    """At full size and with random values: the names and shapes of `ViT-Ti_16.npz`."""
    path = tmp_path / "ti16.npz"
    np.savez(path, **released(dim=192, depth=12, heads=3, classes=21843))
    model = mb.build("vit_ti16", weights=path, set={"image.size": 256}, classes=7)
    assert model.spec.resolved()["block"]["mlp"]["activation"] == "gelu_tanh"
    told = "Transformer/posembed_input/pos_embedding resampled from 14 x 14 to 16 x 16: bilinear, align_corners"
    assert told in caplog.messages
    assert model(torch.randn(1, 3, 256, 256)).shape == (1, 7)


def released(dim, depth, heads, classes, patch=16, tokens=197):
    """The arrays of a released ViT file."""
    norm, block = ["scale", "bias"], "Transformer/encoderblock_"
    shapes = {"embedding/kernel": (patch, patch, 3, dim), "embedding/bias": (dim,), "cls": (1, 1, dim)}
    shapes |= {"Transformer/posembed_input/pos_embedding": (1, tokens, dim)}
    shapes |= {f"Transformer/encoder_norm/{name}": (dim,) for name in norm}
    shapes |= {"head/kernel": (dim, classes), "head/bias": (classes,)}
    for i in range(depth):
        shapes |= {f"{block}{i}/LayerNorm_{place}/{name}": (dim,) for place in (0, 2) for name in norm}
        mixer, mlp = f"{block}{i}/MultiHeadDotProductAttention_1", f"{block}{i}/MlpBlock_3"
        for name in ("query", "key", "value"):
            shapes |= {
                f"{mixer}/{name}/kernel": (dim, heads, dim // heads),
                f"{mixer}/{name}/bias": (heads, dim // heads),
            }
        shapes |= {f"{mixer}/out/kernel": (heads, dim // heads, dim), f"{mixer}/out/bias": (dim,)}
        shapes |= {f"{mlp}/Dense_0/kernel": (dim, 4 * dim), f"{mlp}/Dense_0/bias": (4 * dim,)}
        shapes |= {f"{mlp}/Dense_1/kernel": (4 * dim, dim), f"{mlp}/Dense_1/bias": (dim,)}
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape, dtype=np.float32) / 50 for name, shape in shapes.items()}
