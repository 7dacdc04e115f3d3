"""Each cause is told once, and what the help proposes works."""

import re
import time

import pytest

import metablocks as mb


def faults(name, edits):
    with pytest.raises(mb.SpecError) as caught:
        mb.plan(name, set=edits)
    return caught.value.faults


def windows(*sizes, **more):
    return [{"window_attention": {"window": size, "head_dim": 32, **more}} for size in sizes]


def test_the_help_of_a_window_names_the_arithmetic_and_ways_out_that_were_tried():
    (fault,) = faults("swin_t", {"image.size": 288})
    assert fault.message == "stages.0: a window of 7 does not tile a 72 x 72 grid"
    assert fault.help == (
        "288 px / patch 4 = 72; use window 9, which tiles every stage, an image of 224 px, or `pad: true`"
    )


@pytest.mark.parametrize("size", [288, 112, 230, [288, 224], [224, 300], [100, 1000]])
def test_a_proposed_image_size_plans(size):
    sizes = [
        re.search(r"an image of (\d+)(?: x (\d+))? px", fault.help) for fault in faults("swin_t", {"image.size": size})
    ]
    height, width = sizes[0].groups()
    assert mb.plan("swin_t", set={"image.size": [int(height), int(width or height)]})


@pytest.mark.parametrize(("size", "window"), [(224, 8), (256, 7), (384, 9), ([224, 448], 6)])
def test_a_proposed_window_plans(size, window):
    (fault,) = faults("swin_t", {"image.size": size, "block.mixer": windows(window)})
    proposed = re.search(r"use window ([\d, or]+), which tiles every stage", fault.help)
    for better in re.findall(r"\d+", proposed[1]):
        assert mb.plan("swin_t", set={"image.size": size, "block.mixer": windows(int(better))})


def test_one_window_in_several_mixers_and_stages_is_one_fault():
    edits = {"block.mixer": [*windows(5), *windows(5, shift="half")]}
    assert [fault.message for fault in faults("swin_t", edits)] == [
        "stages.0: a window of 5 does not tile a 56 x 56 grid"
    ]


def test_two_windows_are_two_faults():
    edits = {"block.mixer": windows(5, 6)}
    assert len(faults("swin_t", edits)) == 2


def test_stages_with_settings_of_their_own_are_told_each():
    edits = {f"stages.{index}.mixer": windows(5) for index in (0, 2)}
    told = faults("swin_t", edits)
    assert [fault.message.partition(":")[0] for fault in told] == ["stages.0", "stages.2"]


def test_independent_faults_are_told_in_one_go():
    edits = {"image.size": 288, "stages.1.dim": 200, "stages.3.depth": 3, "head.norm": {"group_norm": {"groups": 5}}}
    assert [fault.message for fault in faults("swin_t", edits)] == [
        "stages.0: a window of 7 does not tile a 72 x 72 grid",
        "stages.1: a head_dim of 32 does not divide the width 200",
        "stages.3: 2 mixers do not tile a depth of 3",
        "5 groups do not divide the width 768",
    ]


def test_after_an_unknown_grid_only_what_does_not_depend_on_it_is_told():
    told = faults("swin_t", {"image.size": 225, "stages.1.dim": 200})
    assert [fault.message for fault in told] == [
        "a patch of 4 does not tile an image of 225 px",
        "stages.1: a head_dim of 32 does not divide the width 200",
    ]


def test_a_value_that_is_set_is_told_at_the_flag():
    (fault,) = faults("swin_t", {"stages.2.mixer": windows(5)[0]})
    assert fault.place.source.flag
    (fault,) = faults("vit_b16", {"head.norm": {"group_norm": {"groups": 5}}})
    assert str(fault.place) == "--set head.norm={group_norm: {groups: 5}}"


def test_dropped_tokens_are_told_once_however_many_mixers_need_them():
    mixer = [*windows(7), "pooling"]
    (fault,) = faults("mae_vit_b16", {"encoder.prefix": [], "encoder.stages.0.mixer": mixer})
    assert fault.message == "mixer `window_attention` needs every token of its grid"
    assert fault.help == "this encoder sees 49 of 196 tokens; use `attention`, or `mask: {tokens: replace}`"


def test_the_search_for_a_way_out_is_bounded():
    stages = [{"dim": 96, "depth": 10, "mixer": windows(index + 73)[0]} for index in range(100)]
    start = time.perf_counter()
    told = faults("swin_t", {"image.size": [2880, 2888], "downsample": "none", "stages": stages})
    assert len(told) > 50
    assert time.perf_counter() - start < 20
