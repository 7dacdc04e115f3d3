"""Every tensor on both sides is used exactly once, or named in an error; nothing is half loaded."""

from __future__ import annotations

import pytest
import torch

from metablocks.build import build
from metablocks.core.errors import InputError
from metablocks.nets import assemble
from metablocks.plan import plan
from metablocks.spec import read
from metablocks.weights import checkpoint_of, convert, recognise


@pytest.fixture
def vit(cases):
    return cases["timm_vit_token"]


@pytest.fixture
def state(vit):
    """The weights of a small ViT by timm's names."""
    return dict(vit.state())


def load(state, spec, fresh_head=False):
    planned = plan(spec)
    with torch.device("meta"):
        wanted = assemble(planned).state_dict()
    checkpoint = checkpoint_of(state)
    return convert(checkpoint, recognise(checkpoint.tensors), planned, wanted, fresh_head)


def refused(state, spec, fresh_head=False):
    with pytest.raises(InputError) as caught:
        load(state, spec, fresh_head)
    return str(caught.value)


def test_every_tensor_is_used_once_and_counted(vit, state):
    made = load(state, vit.spec)
    assert len(made.tensors) == len(state)
    assert made.notes == ("32 tensors of state dict in place: ViT with the names of timm",)
    assert made.warnings == made.fresh == ()


def test_our_own_names_load_back(vit, state):
    ours = build(vit.plan, load(state, vit.spec).tensors).state_dict()
    again = load(ours, vit.spec)
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in ours.items())
    assert again.notes == ("32 tensors of state dict in place: metablocks",)


def test_a_tensor_without_a_place_is_named_with_the_missing_one_that_it_looks_like(vit, state):
    state["blocks.0.attn.qkvs.weight"] = state.pop("blocks.0.attn.qkv.weight")
    assert refused(state, vit.spec) == (
        "error: 1 of the 32 tensors of state dict has no place in this network: `blocks.0.attn.qkvs.weight`\n"
        "help: `blocks.0.attn.qkvs.weight` looks like `blocks.0.attn.qkv.weight`, which is missing\n"
        "\n"
        "error: 1 of the 32 tensors of this network is not in state dict: `blocks.0.attn.qkv.weight`\n"
        "help: is this the spec that the weights were trained with?"
    )


def test_of_many_names_ten_are_told(vit, state):
    state |= {f"extra.{i}": torch.ones(1) for i in range(13)}
    told = refused(state, vit.spec)
    assert "13 of the 45 tensors of state dict have no place in this network: `extra.0`" in told
    assert "`extra.9` and 3 more" in told


def test_stages_of_another_depth_are_told_with_the_edit(vit, state):
    told = refused(state, vit.edited("stages.0.depth=3"))
    assert "12 of the 44 tensors of this network are not in state dict: `blocks.2.norm1.weight`" in told
    assert "help: the stages are of other depth in the file: --set stages.0.depth=2" in told


def test_a_name_that_leads_to_a_place_that_is_taken_has_none(vit, state):
    state["head.weight2"] = state["head.weight"]
    assert "`head.weight2`" in refused(state, vit.spec)


def test_another_number_of_classes_is_told_with_both_ways_out(vit, state):
    assert refused(state, vit.edited("classes=3")) == (
        "error: 2 tensors have another shape in state dict than in this network:\n"
        "  head.weight  (10, 32) there, (3, 32) here\n"
        "  head.bias    (10,)    there, (3,) here\n"
        "help: `--set classes=10` is the head of the file; `mb.build(..., classes=3)` starts a fresh one"
    )


def test_a_fresh_head_leaves_out_the_last_layer_alone_and_says_so(vit, state):
    made = load(state, vit.edited("classes=3"), fresh_head=True)
    assert made.fresh == ("head.fc.weight", "head.fc.bias")
    assert len(made.tensors) == 30
    assert made.notes[-1] == "head.fc.weight and head.fc.bias start fresh: a head for 3 classes"


def test_a_head_that_fits_is_not_started_fresh(vit, state):
    assert load(state, vit.spec, fresh_head=True).fresh == ()


def test_a_fresh_head_excuses_nothing_else(vit, state):
    del state["norm.weight"]
    told = refused(state, vit.edited("classes=3"), fresh_head=True)
    assert "1 of the 32 tensors of this network is not in state dict: `norm.weight`" in told
    assert "another shape" not in told


def test_a_file_without_a_head_takes_a_fresh_one(vit, state):
    del state["head.weight"], state["head.bias"]
    assert "the file has no classifier: give `classes` to `mb.build` for a fresh one" in refused(state, vit.spec)
    assert load(state, vit.spec, fresh_head=True).fresh == ("head.fc.weight", "head.fc.bias")


def test_positions_with_and_without_rows_for_prefix_tokens_are_told_apart(vit, state, cases):
    told = refused(state, vit.edited("position.learned.prefix=false"))
    assert "the file has positions for prefix tokens too: --set position.learned.prefix=true" in told
    registers = cases["timm_vit_reg"]
    told = refused(registers.state(), registers.edited("position.learned.prefix=true"))
    assert "the file has no positions for prefix tokens: --set position.learned.prefix=false" in told


def test_tables_of_another_window_are_resampled_and_said(cases):
    swin = cases["timm_swin"]
    edits = [f"stages.{s}.mixer.{i}.window_attention.window=2" for s in (0, 1) for i in (0, 1)]
    made = load(swin.state(), swin.edited(*edits))
    assert made.notes[-1] == "4 tensors resampled: tables of another window or another resolution"


def test_a_table_that_is_of_no_square_window_is_told(cases):
    swin = cases["timm_swin"]
    state = {name: tensor[:-1] if "bias_table" in name else tensor for name, tensor in swin.state().items()}
    told = refused(state, swin.spec)
    assert "layers.0.blocks.0.attn.relative_position_bias_table  (48, 2) there, (49, 2) here" in told
    assert "help: tables are resampled from square windows alone, and for the same heads" in told


@pytest.mark.parametrize("kind", ["int8", "meta"])
def test_a_table_without_numbers_is_not_resampled_but_told(cases, kind):
    swin = cases["timm_swin"]
    name = "layers.0.blocks.0.attn.relative_position_bias_table"
    table = torch.ones(9, 2).to("meta" if kind == "meta" else torch.int8)
    assert "instead of floating-point numbers: `layers.0.blocks.0" in refused(swin.state() | {name: table}, swin.spec)


def test_another_width_is_told_as_a_table_of_shapes(vit, state):
    told = refused(state, vit.edited("stages.0.dim=64"))
    assert "error: 31 tensors have another shape in state dict than in this network:" in told
    assert "  and 21 more" in told


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_is_cast_and_said(vit, state, kind):
    made = load({name: tensor.to(kind) for name, tensor in state.items()}, vit.spec)
    assert {tensor.dtype for tensor in made.tensors.values()} == {torch.float32}
    assert made.notes[-1] == f"32 tensors cast from {str(kind).removeprefix('torch.')} to float32"


def test_whole_numbers_are_no_weights(vit, state):
    state["norm.weight"] = state["norm.weight"].to(torch.int8)
    told = refused(state, vit.spec)
    assert "1 tensor of state dict holds int8 instead of floating-point numbers: `norm.weight`" in told


def test_tensors_without_values_are_refused(vit, state):
    state["norm.weight"] = state["norm.weight"].to("meta")
    assert "holds no values instead of floating-point numbers: `norm.weight`" in refused(state, vit.spec)


def test_nan_and_infinite_values_are_a_warning_that_names_the_tensor(vit, state):
    state["norm.weight"] = state["norm.weight"].clone()
    state["norm.weight"][:3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    assert load(state, vit.spec).warnings == ("3 of 32 values of `norm.weight` in state dict are NaN or infinite",)


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_ema", "state_dict_ema"])
def test_weights_are_taken_out_of_what_a_training_script_saved_around_them(vit, state, wrapper):
    made = load({wrapper: state, "epoch": 3, "optimizer": {"lr": 1.0}}, vit.spec)
    assert made.notes[0] == f"the weights are those under `{wrapper}`"


def test_averaged_weights_are_used_before_plain_ones_and_both_are_named(vit, state):
    made = load({"state_dict": {"x": 1}, "state_dict_ema": state}, vit.spec)
    assert made.notes[0] == "the weights are those under `state_dict_ema`; `state_dict` is there too"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_a_prefix_of_every_name_is_taken_off_and_said(vit, state, prefix):
    made = load({f"{prefix}{name}": tensor for name, tensor in state.items()}, vit.spec)
    assert made.notes[0].startswith("every name in state dict began with `")
    assert len(made.tensors) == 32


def test_a_prefix_of_some_names_is_guessed_at(state):
    mixed = {(f"module.{name}" if name.startswith("blocks") else name): tensor for name, tensor in state.items()}
    with pytest.raises(InputError, match=r"24 of the names begin with `module\.`; take it off, and they are known"):
        recognise(mixed)


def test_names_of_nobody_are_refused():
    with pytest.raises(InputError) as caught:
        recognise(["layer1.0.conv1.weight", "fc.weight"])
    assert "no publisher has these 2 names: `layer1.0.conv1.weight`, `fc.weight`" in str(caught.value)


def test_weights_of_another_kind_of_network_are_refused_at_once(state, cases):
    assert refused(state, cases["timm_swin"].spec) == (
        "error: these are weights of ViT with the names of timm, and the spec mixes by `window_attention`\n"
        "help: build the network that they were trained for: `metablocks specs` lists the names"
    )
    told = refused(state, cases["mae_pixels"].spec)
    assert "ViT with the names of timm; they go into a classifier, and the spec is a masked_autoencoder" in told


def test_an_encoder_without_its_decoder_is_told_as_such(cases):
    mae = cases["mae_pixels"]
    encoder = {name: tensor for name, tensor in mae.state().items() if not name.startswith(("decoder", "mask"))}
    told = refused(encoder, mae.spec)
    assert "these are weights of ViT without a classifier, with the names of timm (such as MAE's encoder alone)" in told


def test_buffers_that_follow_from_the_sizes_are_left_out_and_counted(cases):
    swin = cases["timm_swin"]
    extra = {"layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16)}
    extra["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    made = load({**swin.state(), **extra}, swin.spec)
    assert made.notes[-1] == "2 tensors of state dict left out: buffers that follow from the sizes"


def test_sail_sg_numbers_stages_downsamplings_and_positions_in_one_row():
    """A stage without downsampling shifts the numbers, and so does a position."""
    stages = [
        {"dim": 8, "depth": 1},
        {"dim": 8, "depth": 1},
        {"dim": 16, "depth": 2, "position": "learned", "downsample": {"conv": {"kernel": 2, "stride": 2}}},
    ]
    text = f"""
net: classifier
image: {{size: 32, channels: 3}}
classes: 5
stem: {{conv_embed: {{kernel: 4, stride: 4}}}}
position: learned
block: {{norm: group_norm, mixer: pooling, mlp: {{ratio: 1}}}}
stages: {stages}
head: {{norm: group_norm}}
"""
    spec = read(text.replace("'", ""))
    with torch.device("meta"):
        wanted = assemble(plan(spec)).state_dict()
    blocks = {"network.1.0": 8, "network.2.0": 8, "network.5.0": 16, "network.5.1": 16}
    shapes = {"patch_embed.proj.weight": (8, 3, 4, 4), "patch_embed.proj.bias": (8,)}
    shapes |= {"network.0.pos_embed": (1, 8, 8, 8), "network.4.pos_embed": (1, 16, 4, 4)}
    shapes |= {"network.3.proj.weight": (16, 8, 2, 2), "network.3.proj.bias": (16,)}
    shapes |= {"norm.weight": (16,), "norm.bias": (16,), "head.weight": (5, 16), "head.bias": (5,)}
    for name, dim in blocks.items():
        for layer in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
            shapes |= {f"{name}.{layer}.bias": (dim,), f"{name}.{layer}.weight": (dim,)}
        shapes |= {f"{name}.mlp.fc{i}.weight": (dim, dim, 1, 1) for i in (1, 2)}
    made = load({name: torch.randn(shape) for name, shape in shapes.items()}, spec)
    assert set(made.tensors) == set(wanted)
