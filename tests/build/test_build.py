"""Building: meta first, filled once, each publisher's initialisation, faults in words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import metablocks as mb
from metablocks.build import device_of, dtype_of, explain_compile_error, materialise, skeleton

TINY = """
net: classifier
image: {size: 32}
classes: 10
stem: {patch_embed: {patch: 8}}
prefix: [class, {registers: {count: 2}}]
position: learned
block:
  norm: {layer_norm: {eps: 1e-6}}
  mixer: {attention: {heads: 2}}
  mlp: {ratio: 2}
  layer_scale: 1e-5
  res_scale: 1
stages: [{dim: 64, depth: 2}]
head: {norm: layer_norm, pool: class}
"""
MASKED = """
net: masked_autoencoder
image: {size: [32, 16], channels: 2}
mask: {ratio: 0.75, tokens: MODE}
block: {norm: layer_norm, mlp: {ratio: 2}, mixer: MIXER}
encoder: {stem: {patch_embed: {patch: 4}}, PREFIX, position: learned, stages: [{dim: 16, depth: 2}]}
decoder: {position: learned, stages: [{dim: 8, depth: 1, mixer: {attention: {heads: 2}}}], norm: layer_norm}
init: mae
"""
DROP = MASKED.replace("MODE", "drop").replace("MIXER", "{attention: {heads: 2}}").replace("PREFIX", "prefix: [class]")
REPLACE = MASKED.replace("MODE", "replace").replace("MIXER", "pooling").replace("PREFIX", "prefix: []")
INITS = ["vit", "vit_jax", "mixer", "swin", "mae", "metaformer", "metaformer_baselines"]


def test_the_skeleton_holds_no_storage():
    model = skeleton(mb.plan("vit_h14"))
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("init", INITS)
def test_every_initialisation_gives_every_parameter_a_finite_value(init):
    model = mb.build(TINY, set=[f"init={init}"])
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    block = model.encoder.stages[0].blocks[0]
    assert (block.mixer.layer_scale == 1e-5).all()
    assert (block.mixer.res_scale == 1).all()
    assert (block.mixer.norm.weight == 1).all()
    assert model(torch.randn(2, 3, 32, 32)).isfinite().all()


def test_initialisations_are_those_of_the_publishers():
    torch.manual_seed(0)
    vit = mb.build(TINY, set=["init=vit"]).state_dict()
    assert vit["encoder.stages.0.blocks.0.mixer.op.qkv.weight"].std() == pytest.approx(0.02, rel=0.05)
    assert vit["encoder.embedding.prefix.class_token"].abs().max() < 1e-5
    jax = mb.build(TINY, set=["init=vit_jax"]).state_dict()
    assert not jax["head.fc.weight"].any()
    assert not jax["encoder.embedding.prefix.class_token"].any()
    assert 0 < jax["encoder.stages.0.blocks.0.mlp.op.fc1.bias"].std() < 1e-5
    assert jax["encoder.stages.0.blocks.0.mlp.op.fc1.weight"].abs().max() == pytest.approx((6 / 192) ** 0.5, rel=0.01)
    mae = mb.build(TINY, set=["init=mae"]).state_dict()
    assert mae["encoder.stem.proj.weight"].abs().max() == pytest.approx((6 / (64 + 192)) ** 0.5, rel=0.01)
    assert mae["encoder.embedding.prefix.class_token"].std() == pytest.approx(0.02, rel=0.4)


@pytest.mark.parametrize("text", [DROP, REPLACE], ids=["drop", "replace"])
def test_a_masked_autoencoder_trains_on_its_own_noise_and_on_a_given_one(text):
    torch.manual_seed(0)
    model = mb.build(text)
    images, noise = torch.randn(2, 2, 32, 16), torch.rand(2, 32)
    out = model(images, noise=noise)
    again = model(images, noise=noise)
    assert out.pred.shape == (2, 32, 4 * 4 * 2)
    assert (out.mask.sum(1) == 24).all()
    assert torch.equal(out.mask, (noise >= noise.sort(1).values[:, 8:9]).float())
    assert torch.equal(out.loss, again.loss)
    out.loss.backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert model(images).loss.isfinite()


def test_a_hierarchical_network_learns_from_replaced_tokens():
    text = REPLACE.replace("mixer: pooling", "mixer: {window_attention: {window: 4, heads: 2, shift: half}}")
    two = "downsample: patch_merging, stages: [{dim: 16, depth: 2}, {dim: 32, depth: 2}]}"
    text = text.replace("stages: [{dim: 16, depth: 2}]}", two)
    model = mb.build(text)
    out = model(torch.randn(1, 2, 32, 16))
    assert out.pred.shape == (1, 8, 8 * 8 * 2)
    assert out.mask.sum() == 6
    assert out.latent.shape == (1, 8, 32)


def test_patches_are_normalised_as_the_paper_does():
    model = mb.build(DROP, set=["target={pixels: {normalize: patch}}"])
    patches = model.target(torch.randn(2, 2, 32, 16))
    assert patches.mean(-1).abs().max() < 1e-5
    assert (patches.var(-1) - 1).abs().max() < 1e-4


def test_features_come_before_pooling_and_maps_are_one_a_stage():
    model = mb.build(TINY)
    images = torch.randn(2, 3, 32, 32)
    assert model.features(images).shape == (2, 3 + 16, 64)
    assert [tuple(m.shape) for m in model.feature_maps(images)] == [(2, 64, 4, 4)]
    pooled = model.features(images)[:, 0]
    torch.testing.assert_close(model.head.fc(pooled), model(images))


def test_a_network_without_a_head_returns_tokens():
    text = TINY.replace("head: {norm: layer_norm, pool: class}", "head: none").replace("classes: 10\n", "")
    assert mb.build(text)(torch.randn(1, 3, 32, 32)).shape == (1, 19, 64)


def test_parameter_groups_spare_norms_biases_positions_and_tokens():
    model = mb.build(TINY)
    decayed, spared = model.parameter_groups(weight_decay=0.05)
    names = {id(p): name for name, p in model.named_parameters()}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    assert all(names[id(p)].endswith(".weight") and "norm" not in names[id(p)] for p in decayed["params"])
    told = {names[id(p)] for p in spared["params"]}
    assert {"encoder.embedding.position.table", "encoder.embedding.prefix.class_token"} <= told
    assert len(decayed["params"]) + len(spared["params"]) == len(names)
    swin = mb.build("swin_t", set={"stages": [{"dim": 96, "depth": 2}]})
    assert all("bias_table" not in name for name in _names(swin, swin.parameter_groups(0.05)[0]["params"]))
    v2 = mb.build("swinv2_t_w8", set={"stages": [{"dim": 96, "depth": 2}]})
    decayed = _names(v2, v2.parameter_groups(0.05)[0]["params"])
    assert not any("logit_scale" in name or "bias_net" in name for name in decayed)
    assert any("qkv.weight" in name for name in decayed)


def test_the_norms_of_swin_v2_start_at_zero_so_that_its_blocks_start_as_the_identity():
    text = {"stages": [{"dim": 32, "depth": 2}], "image.size": 32}
    model = mb.build("swinv2_t_w8", set=text)
    stage = model.encoder.stages[0]
    assert (stage.blocks[0].mixer.op.logit_scale.exp() - 10).abs().max() < 1e-5
    assert not stage.blocks[1].mixer.op.q_bias.any()
    x = torch.randn(2, 64, 32)
    assert torch.equal(stage(x), x)
    assert (model.head.norm.weight == 1).all()
    assert (model.encoder.stem.norm.weight == 1).all()
    plain = mb.build("swin_t", set=text | {"image.size": 28}).encoder.stages[0].blocks[0]
    assert (plain.mixer.norm.weight == 1).all()


def _names(model, parameters):
    names = {id(p): name for name, p in model.named_parameters()}
    return [names[id(p)] for p in parameters]


def test_the_variance_of_lecun_and_of_each_of_query_key_and_value_is_the_published_one():
    torch.manual_seed(0)
    jax = mb.build(TINY, set=["init=vit_jax"]).state_dict()
    stem = jax["encoder.stem.proj.weight"]
    assert stem.std() * 192**0.5 == pytest.approx(1, rel=0.03)
    assert stem.abs().max() <= 2 / 0.8796 / 192**0.5 + 1e-6
    query = jax["encoder.stages.0.blocks.0.mixer.op.qkv.weight"][:64]
    assert query.abs().max() == pytest.approx((6 / 128) ** 0.5, rel=0.01)


def test_the_loss_of_a_large_batch_does_not_overflow_half_precision():
    model = mb.build(DROP, dtype="float16")
    assert model(20 * torch.randn(64, 2, 32, 16, dtype=torch.float16)).loss.isfinite()


def test_dtype_and_seed_are_as_asked():
    torch.manual_seed(3)
    first = mb.build(TINY, dtype="bfloat16")
    torch.manual_seed(3)
    second = mb.build(TINY, dtype="bfloat16")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first(torch.randn(1, 3, 32, 32, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_device_that_is_not_there_is_told():
    with pytest.raises(mb.MissingError, match="no device `cuda:99`") as caught:
        device_of("cuda:99")
    assert caught.value.exit_code == 6
    with pytest.raises(mb.InputError, match="no device called `gpu`"):
        device_of("gpu")
    for other in ("xla", "meta", None):
        with pytest.raises(mb.InputError, match="no device called"):
            device_of(other)
    with pytest.raises(mb.InputError, match=r"no dtype called `torch.int32`"):
        dtype_of(torch.int32)
    with pytest.raises(mb.InputError, match="no dtype called `fp8`"):
        dtype_of("fp8")
    with pytest.raises(mb.InputError, match="no way to compile called `all`"):
        mb.build(TINY, compile="all")


def test_a_table_made_on_the_meta_device_is_told():
    class Careless(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.arange(3.0))

    with torch.device("meta"):
        module = Careless()
    with pytest.raises(mb.InputError, match=r"made on the meta device"):
        materialise(module, torch.device("cpu"))


def test_a_missing_cpp_compiler_gets_a_sentence_that_names_the_way_out():
    from torch._inductor.exc import InvalidCxxCompiler

    told = explain_compile_error(InvalidCxxCompiler())
    assert told is not None
    assert told.exit_code == 6
    assert "--compile none" in str(told)
    assert explain_compile_error(ValueError("something else")) is None
