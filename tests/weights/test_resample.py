"""Position tables are resampled as their publisher does it: recorded functions, and whole checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import metablocks as mb
from metablocks.core import resample
from metablocks.core.errors import InputError
from metablocks.parts.position import sincos_2d

REFERENCE = Path(__file__).parents[1] / "reference"
RECORDED = {case["name"]: case for case in json.loads((REFERENCE / "interpolations.json").read_text())["cases"]}
WAYS = {"interp_google": resample.GOOGLE, "interp_mae": resample.MAE, "interp_timm": resample.TIMM}


def items(function):
    return [
        pytest.param(name, item, id=f"{name}-{item['input']}")
        for name, case in RECORDED.items()
        for item in case["items"]
        if item["function"].endswith(function)
    ]


def check(name, item, way, old, new, prefix):
    tensors = load_file(REFERENCE / f"{name}.io.safetensors")
    made = way(tensors[item["input"]], tuple(old), tuple(new), prefix)
    torch.testing.assert_close(made, tensors[item["expected"]], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "item"), items("interpolate_posembed") + items("interpolate_pos_embed"))
def test_google_and_mae_resample_as_recorded(name, item):
    check(name, item, WAYS[name], item["old_grid"], item["new_grid"], item["prefix_tokens"])


@pytest.mark.parametrize(("name", "item"), items("resample_abs_pos_embed"))
def test_timm_resamples_as_recorded(name, item):
    args = item["args"]
    way = resample.TIMM_NPZ if args.get("interpolation") == "bilinear" else resample.TIMM
    check(name, item, way, args["old_size"], args["new_size"], args["num_prefix_tokens"])


@pytest.mark.parametrize(("name", "item"), items("get_2d_sincos_pos_embed"))
def test_fixed_tables_are_those_of_mae(name, item):
    tensors = load_file(REFERENCE / f"{name}.io.safetensors")
    args, expected = item["args"], tensors[item["expected"]]
    rows = int(args["cls_token"])
    made = sincos_2d(args["grid_size"], args["grid_size"], args["embed_dim"])
    torch.testing.assert_close(made, expected[rows:].float(), rtol=0, atol=1e-7)
    assert not expected[:rows].any()


def test_a_way_is_written_as_its_settings():
    assert [str(way) for way in (resample.TIMM, resample.MAE, resample.GOOGLE)] == [
        "bicubic, antialias",
        "bicubic",
        "bilinear, align_corners",
    ]


def test_half_precision_is_resampled_in_single():
    table = torch.randn(1, 17, 8).half()
    made = resample.TIMM(table, (4, 4), (6, 6), 1)
    assert made.dtype == torch.float16
    assert torch.equal(made[:, 0], table[:, 0])


POSITIONS = "encoder.embedding.position.table"
CASES = [
    ("timm_vit_token", "pos_embed", resample.TIMM, 1),
    ("timm_vit_avg_fcnorm", "pos_embed", resample.TIMM, 1),
    ("timm_vit_reg", "pos_embed", resample.TIMM, 0),
    ("timm_vit_hybrid_r", "pos_embed", resample.TIMM, 1),
    ("vit_jax_token", "Transformer/posembed_input/pos_embedding", resample.GOOGLE, 1),
    ("vit_jax_gap", "Transformer/posembed_input/pos_embedding", resample.GOOGLE, 0),
    ("mae_pixels", "pos_embed", resample.MAE, 1),
]


@pytest.mark.parametrize("size", [(64, 64), (32, 64), (48, 32)], ids=str)
@pytest.mark.parametrize("resized", CASES, ids=[case[0] for case in CASES])
def test_a_checkpoint_loads_at_another_resolution_and_says_how(resized, size, cases, caplog):
    name, theirs, way, prefix = resized
    case = cases[name]
    edited = case.edited(f"image.size=[{size[0]}, {size[1]}]")
    model = mb.build(edited, weights=case.path)
    grid = model.plan.encoder.embedding.grid
    old = case.plan.encoder.embedding.grid
    state = case.state()
    expected = way(state[theirs], (old.height, old.width), (grid.height, grid.width), prefix)
    assert torch.equal(model.state_dict()[POSITIONS], expected)
    told = f"{theirs} resampled from {old.height} x {old.width} to {grid.height} x {grid.width}: {way}"
    assert told in caplog.messages
    with torch.no_grad():
        model(torch.randn(1, 3, *size))


def test_both_tables_of_a_masked_autoencoder_are_resampled(cases):
    case = cases["mae_pixels"]
    edited = case.edited("image.size=64")
    made, state = mb.build(edited, weights=case.path).state_dict(), case.state()
    old = case.plan.encoder.embedding.grid
    for ours, theirs in ((POSITIONS, "pos_embed"), ("decoder.embedding.position.table", "decoder_pos_embed")):
        side = edited.net.image.size[0] * old.height // case.plan.encoder.stem.image[0]
        expected = resample.MAE(state[theirs], (old.height, old.width), (side, side), 1)
        assert torch.equal(made[ours], expected)


def test_a_network_with_the_initialisation_of_mae_is_resampled_its_way(cases):
    case = cases["mae_finetune_gap"]
    model = mb.build(case.edited("image.size=48", "init=mae"), weights=case.path)
    expected = resample.MAE(case.state()["pos_embed"], (4, 4), (6, 6), 1)
    assert torch.equal(model.state_dict()[POSITIONS], expected)


def test_our_own_weights_are_resampled_too(cases):
    case = cases["timm_vit_token"]
    state = case.build().state_dict()
    made = mb.build(case.edited("image.size=64"), weights=state).state_dict()
    assert made[POSITIONS].shape == (1, 65, 32)


def test_a_table_with_as_many_rows_as_the_grid_stands_as_it_is_and_that_is_said(cases, caplog):
    case = cases["timm_vit_token"]
    made = mb.build(case.edited("image.size=[16, 64]"), weights=case.path).state_dict()
    assert torch.equal(made[POSITIONS], case.state()["pos_embed"])
    assert "pos_embed has as many rows as the grid, and stands as it is, not from 4 x 4 to 2 x 8" in caplog.messages


def test_a_table_of_no_square_grid_is_refused(cases):
    case = cases["timm_vit_token"]
    state = case.state()
    state["pos_embed"] = state["pos_embed"][:, :16]
    with pytest.raises(InputError, match="positions are resampled from square grids alone; the file has 16 of them"):
        mb.build(case.edited("image.size=64"), weights=state)
