"""Microsoft's checkpoints: names, buffers, what is optional, and the rule for windows on small maps."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F

import metablocks as mb
from metablocks.core.errors import InputError
from metablocks.plan import plan
from metablocks.spec import read
from metablocks.weights import contradictions, microsoft, recognise, timm

SMALL = {"stages": [{"dim": 32, "depth": 2}, {"dim": 64, "depth": 2}], "classes": 5}
NAMES = {"swin_t": microsoft.SWIN, "swinv2_t_w8": microsoft.SWIN_V2, "swin_mlp_t_c6": microsoft.SWIN_MLP}


def spec_of(name, **set):
    heads = {"swin_t": "head_dim: 32", "swinv2_t_w8": "head_dim: 32", "swin_mlp_t_c6": "head_dim: 8"}[name]
    mixer = {"swin_t": "window_attention", "swinv2_t_w8": "cosine_window_attention", "swin_mlp_t_c6": "window_mlp"}[
        name
    ]
    mixers = f"[{{{mixer}: {{window: 4, {heads}}}}}, {{{mixer}: {{window: 4, {heads}, shift: half}}}}]"
    edits = [f"{path}={value}" for path, value in {"image.size": 64, **set}.items()]
    stages = "stages=[{dim: 32, depth: 2}, {dim: 64, depth: 2}]"
    return [stages, f"block.mixer={mixers}", "classes=5", *edits]


def theirs(name, **set):
    """A seeded checkpoint in Microsoft's layout of the small network, and the network that it came from."""
    torch.manual_seed(0)
    model = mb.build(name, set=spec_of(name, **set))
    rules = NAMES[name].rules_for(model.plan)
    state = {}
    for ours, tensor in model.state_dict().items():
        value = torch.randn_like(tensor) * 0.2
        if name == "swin_mlp_t_c6" and ours.endswith("mixer.op.weight"):
            value = value.flatten(0, 1)[:, :, None]
        state[next(found for rule in rules if (found := rule.backward(ours)))] = value
    return state


@pytest.mark.parametrize("name", NAMES)
def test_names_are_recognised_and_lead_to_every_parameter(name):
    state = theirs(name)
    assert recognise(state).name == NAMES[name].name
    assert "layers.0.downsample.reduction.weight" in state
    assert "head.weight" in state
    model = mb.build(name, set=spec_of(name), weights=state)
    again = mb.build(name, set=spec_of(name), weights=model.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(model(images), again(images))


def test_a_network_without_classes_is_recognised_by_where_it_downsamples():
    for name, publisher in NAMES.items():
        state = {key: value for key, value in theirs(name).items() if not key.startswith("head.")}
        assert recognise(state).name == publisher.name


def test_names_of_timm_stay_those_of_timm(cases):
    assert recognise(cases["timm_swin"].state()).name == timm.SWIN.name
    assert recognise(cases["timm_swinv2"].state()).name == timm.SWIN_V2.name


@pytest.mark.parametrize("name", NAMES)
def test_positions_and_a_missing_patch_norm_are_settings_that_a_shipped_spec_takes_over(name, caplog):
    state = theirs(name, position="learned", **{"stem.patch_embed.norm": "none"})
    assert "absolute_pos_embed" in state
    with caplog.at_level(logging.INFO):
        model = mb.build(name, set=spec_of(name), weights=state)
    assert "--set 'stem.patch_embed.norm=none' --set 'position=learned'" in caplog.text
    assert torch.equal(model.encoder.embedding.position.table, state["absolute_pos_embed"])


def test_saved_buffers_are_left_out():
    state = theirs("swinv2_t_w8")
    state["layers.0.blocks.0.attn.relative_coords_table"] = torch.zeros(1, 7, 7, 2)
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(16, 16, 16)
    mb.build("swinv2_t_w8", set=spec_of("swinv2_t_w8"), weights=state)


@pytest.mark.parametrize("name", NAMES)
def test_on_a_small_map_that_is_not_square_the_window_is_cut_to_a_square(name, caplog):
    size = {"image.size": "[16, 64]"}
    with caplog.at_level(logging.INFO):
        model = mb.build(name, set=spec_of(name, **size), weights=theirs(name, **size, **SQUARE[name]))
    assert caplog.text.count(".cut=square") == 2
    first, last = (stage.blocks[1].kind.mixer.sizes for stage in model.plan.stages)
    assert (first.window, first.shift) == ((4, 4), (0, 0))
    assert (last.window, last.shift) == ((2, 2), (0, 0))


SQUARE = {
    name: {f"block.mixer.{index}.{publisher.mixers[0]}.cut": "square" for index in (0, 1)}
    for name, publisher in NAMES.items()
}


def test_a_rule_that_changes_nothing_contradicts_no_spec(tmp_path):
    """Where every grid is longer than the window, a file need not say how small maps cut it."""
    wide = {"image.size": "[64, 96]"}
    state = theirs("swin_t", **wide)
    file = tmp_path / "own.yaml"
    file.write_text(_text("swin_t"))
    mb.build(str(file), set=spec_of("swin_t", **wide), weights=state)
    small = {"image.size": "[16, 64]"}
    with pytest.raises(InputError, match=r"--set 'block\.mixer\.0\.window_attention\.cut=square'"):
        mb.build(str(file), set=spec_of("swin_t", **small), weights=theirs("swin_t", **small, **SQUARE["swin_t"]))


def _text(name):
    from metablocks.core.shipped import shipped_path

    return shipped_path(name).read_text()


@pytest.mark.parametrize(
    ("publisher", "name"),
    [
        (microsoft.SWIN, "swin_t"),
        (microsoft.SWIN, "swin_t_c24_w8_256"),
        (microsoft.SWIN_V2, "swinv2_b_w16"),
        (timm.SWIN_V2, "swinv2_b_w16"),
        (microsoft.SWIN_MLP, "swin_mlp_b"),
    ],
)
def test_the_shipped_specs_have_the_settings_of_their_publishers(publisher, name):
    assert contradictions(publisher, read(name).resolved()) == []


def test_every_head_of_swin_mlp_is_a_group_of_their_convolution():
    """The original multiplies windows by a convolution over heads x tokens with one group a head."""
    name = "swin_mlp_t_c6"
    state = theirs(name)
    model = mb.build(name, set=spec_of(name), weights=state)
    key = "layers.0.blocks.0.spatial_mlp"
    x = torch.randn(2, 256, 32)
    windows = x.view(2, 4, 4, 4, 4, 4, 8).permute(0, 1, 3, 5, 2, 4, 6).reshape(32, 64, 8)
    mixed = F.conv1d(windows, state[f"{key}.weight"], state[f"{key}.bias"], groups=4)
    expected = mixed.view(2, 4, 4, 4, 4, 4, 8).permute(0, 1, 4, 2, 5, 3, 6).reshape(2, 256, 32)
    block = model.encoder.stages[0].blocks[0]
    torch.testing.assert_close(block.mixer.op(x, block.grid), expected, atol=1e-5, rtol=1e-5)


def test_swin_v2_in_another_window_keeps_its_weights_and_makes_its_tables_anew():
    name = "swinv2_t_w8"
    state = theirs(name)
    edits = spec_of(name, **{"image.size": 96})
    edits[1] = edits[1].replace("window: 4", "window: 6").replace("head_dim: 32", "head_dim: 32, pretrained_window: 4")
    model = mb.build(name, set=edits, weights=state)
    assert plan(model.spec).stages[0].blocks[0].kind.mixer.sizes.pretrained_window == (4, 4)
    assert model.encoder.stages[0].blocks[0].mixer.op.offsets.abs().max() > 1  # past the window that was trained
