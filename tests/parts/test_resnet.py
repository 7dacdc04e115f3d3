"""The stem of hybrids: sizes, XLA's SAME padding, both standardisations, faults in words."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import metablocks as mb
from metablocks.parts.resnet import ResNetV2, StandardConv, pad_same


def spec(image, **stem):
    return json.dumps(
        {
            "net": "classifier",
            "image": {"size": image, "channels": 3},
            "classes": 5,
            "stem": {"resnet_v2": {"width": 32, **stem}},
            "prefix": ["class"],
            "position": "learned",
            "block": {"norm": "layer_norm", "mixer": {"attention": {"heads": 2}}, "mlp": {"ratio": 2}},
            "stages": [{"dim": 8, "depth": 1}],
            "head": {"norm": "layer_norm", "pool": "class"},
        }
    )


@settings(max_examples=15)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.sampled_from([[], [1], [2, 1], [1, 1, 1]]),
)
def test_the_planned_grid_is_that_of_the_tokens_for_images_of_any_size(image, depths):
    plan = mb.plan(spec(list(image), depths=depths))
    grid = plan.encoder.embedding.grid
    stride = 4 * 2 ** max(0, len(depths) - 1)
    assert (grid.height, grid.width) == (-(-image[0] // stride), -(-image[1] // stride))
    with torch.device("meta"):
        stem = plan.encoder.stem.stem.build(3, 8)
        assert stem(torch.empty(2, 3, *image)).shape == (2, grid.height * grid.width, 8)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("length", [1, 2, 5, 8, 15, 16])
def test_the_odd_row_of_a_same_border_stands_behind(length, kernel, stride):
    image = torch.ones(1, 1, length, length)
    padded = pad_same(image, kernel, stride)
    made = F.conv2d(padded, torch.ones(1, 1, kernel, kernel), stride=stride)
    assert made.shape[2:] == (-(-length // stride),) * 2
    front = int((padded[0, 0, :, padded.shape[3] // 2] == 0).long().cumprod(0).sum())
    border = padded.shape[2] - length
    assert front == border // 2
    if border % 2 == 0:
        same = nn.functional.conv2d(image, torch.ones(1, 1, kernel, kernel), stride=stride, padding=border // 2)
        assert torch.equal(made, same)


@pytest.mark.parametrize("on", ["variance", "deviation"])
def test_weights_are_standardised_in_each_output(on):
    settings = ResNetV2(depths=[1], weight_eps=0.5, weight_eps_on=on)
    conv = StandardConv((4, 6), 3, 1, settings).double()
    image = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    weight = conv.weight.detach().numpy().reshape(6, -1)
    centred = weight - weight.mean(1, keepdims=True)
    spread = (weight.var(1, keepdims=True) + 0.5) ** 0.5 if on == "variance" else weight.std(1, keepdims=True) + 0.5
    expected = F.conv2d(image, torch.from_numpy(centred / spread).view_as(conv.weight), padding=1)
    torch.testing.assert_close(conv(image), expected)


def test_a_shortcut_is_projected_where_width_or_stride_change():
    stem = ResNetV2(depths=[2, 2], width=32).build(3, 8)
    assert [[unit.shortcut is None for unit in stage] for stage in stem.stages] == [[False, True]] * 2


def test_the_stem_trains_and_compiles_as_one_graph():
    torch.manual_seed(0)
    model = mb.build(spec([33, 20], depths=[1, 1]), compile="block", backend="aot_eager").train()
    model(torch.randn(2, 3, 33, 20)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_patch_that_does_not_tile_the_last_map_is_told_with_an_image_that_fits():
    with pytest.raises(mb.SpecError) as caught:
        mb.plan(spec(100, depths=[1, 1], patch=2))
    (fault,) = caught.value.faults
    assert fault.message == "a patch of 2 does not tile the 13 x 13 map of resnet_v2"
    assert fault.help == "its stages reduce 100 px by 8; use an image of 96 px"


def test_groups_that_do_not_divide_a_width_of_the_stem_are_told():
    with pytest.raises(mb.SpecError, match="32 groups do not divide the width 40"):
        mb.plan(spec(64, depths=[1], width=40))


def test_depths_are_a_list_of_positive_whole_numbers():
    for wrong in (3, [0], [1.5], ["x"]):
        with pytest.raises(mb.SpecError, match="`depths` must be"):
            mb.read(spec(64, depths=wrong))
