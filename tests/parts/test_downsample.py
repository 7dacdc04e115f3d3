"""Downsampling on grids that do not halve."""

import pytest
import torch
import torch.nn.functional as F

import metablocks as mb
from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit
from metablocks.parts.downsample import PatchMerging


def test_patch_merging_halves_an_odd_grid_where_it_may_pad():
    assert PatchMerging(pad=True).grid(Grid(5, 8)) == Grid(3, 4)
    assert PatchMerging(pad=True).grid(Grid(1, 1)) == Grid(1, 1)
    with pytest.raises(GridMisfit, match="cannot halve a 5 x 8 grid"):
        PatchMerging().grid(Grid(5, 8))


def test_zeros_stand_below_and_right_of_an_odd_grid():
    odd = PatchMerging(pad=True).build(Grid(3, 5), (4, 6))
    even = PatchMerging().build(Grid(4, 6), (4, 6))
    even.load_state_dict(odd.state_dict())
    x = torch.randn(2, 15, 4)
    filled = F.pad(x.view(2, 3, 5, 4), (0, 0, 0, 1, 0, 1)).flatten(1, 2)
    assert torch.equal(odd(x), even(filled))


def test_a_shipped_swin_takes_any_image_that_its_patches_tile():
    pads = {f"block.mixer.{index}.window_attention.pad": True for index in (0, 1)}
    edits = {"image.size": [100, 76], "downsample": {"patch_merging": {"pad": True}}, **pads}
    grids = [stage.grid for stage in mb.plan(mb.read("swin_t", set=edits)).stages]
    assert grids == [Grid(25, 19), Grid(13, 10), Grid(7, 5), Grid(4, 3)]
