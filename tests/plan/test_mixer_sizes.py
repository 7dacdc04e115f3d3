"""What each mixer's settings resolve to, and where they do not fit."""

import pytest

from metablocks import mixers
from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit, Misfit


def sizes(mixer, dim, grid, **settings):
    return mixers.find(mixer).settings(**settings).resolve(dim, Grid(*grid))


@pytest.mark.parametrize("mixer", ["attention", "window_attention"])
@pytest.mark.parametrize("given", [{"head_dim": 8}, {"heads": 3}])
def test_heads_and_their_width_follow_from_each_other(mixer, given):
    window = {"window": 2} if mixer == "window_attention" else {}
    found = sizes(mixer, 24, (4, 4), **given, **window)
    assert (found.heads, found.head_dim, found.scale) == (3, 8, 8**-0.5)
    assert sizes(mixer, 24, (4, 4), **given, **window, scale=2.0).scale == 2.0


@pytest.mark.parametrize("given", [{"head_dim": 7}, {"heads": 5}, {"head_dim": 48}])
def test_heads_that_do_not_divide_the_width_do_not_fit(given):
    with pytest.raises(Misfit, match="not divide the width 24") as caught:
        sizes("attention", 24, (4, 4), **given)
    assert all(24 % size == 0 for _, size in caught.value.options)


@pytest.mark.parametrize(
    ("window", "shift", "grid", "expected"),
    [
        (7, "half", (14, 14), (3, 3)),
        (4, "half", (8, 4), (2, 0)),  # one window along an axis: nothing moves there
        (4, "half", (4, 12), (0, 2)),
        (4, 3, (8, 8), (3, 3)),
        ((4, 2), (1, 1), (4, 8), (0, 1)),
        (8, "half", (4, 4), (0, 0)),
        (1, "half", (4, 4), (0, 0)),
        (4, 0, (8, 8), (0, 0)),
    ],
)
def test_windows_are_shifted_along_axes_of_several_windows(window, shift, grid, expected):
    assert sizes("window_attention", 8, grid, window=window, shift=shift, heads=2).shift == expected


@pytest.mark.parametrize(
    ("window", "grid", "expected", "padding"),
    [
        (7, (14, 14), (7, 7), (0, 0)),
        (7, (5, 14), (5, 7), (0, 0)),  # cut to the grid
        (7, (6, 15), (6, 7), (0, 6)),
        ((2, 3), (5, 7), (2, 3), (1, 2)),
    ],
)
def test_a_window_is_cut_to_the_grid_and_the_grid_padded_to_windows(window, grid, expected, padding):
    found = sizes("window_attention", 8, grid, window=window, heads=2, pad=True)
    assert (found.window, found.padding, found.grid) == (expected, padding, grid)


def test_a_window_that_does_not_tile_needs_padding():
    with pytest.raises(GridMisfit, match="a window of 4 does not tile a 6 x 8 grid") as caught:
        sizes("window_attention", 8, (6, 8), window=4, heads=2)
    assert caught.value.options == (("window", 2), ("pad", True))


def test_a_window_of_more_than_4096_tokens_is_refused():
    assert sizes("window_attention", 8, (64, 128), window=64, heads=2).window == (64, 64)
    with pytest.raises(GridMisfit, match="a window of 65 x 64 is 4,160 tokens"):
        sizes("window_attention", 8, (65, 64), window=65, heads=2)


def test_pooling_keeps_its_window_while_it_reaches_something():
    assert sizes("pooling", 8, (4, 2), window=7).window == 7
    assert sizes("pooling", 8, (1, 1)).window == 3
    with pytest.raises(GridMisfit, match="a pooling window of 9 reaches past a 4 x 2 grid"):
        sizes("pooling", 8, (4, 2), window=9)


@pytest.mark.parametrize(
    ("settings", "hidden"), [({}, 4), ({"ratio": 2.0}, 16), ({"hidden": 5}, 5), ({"layers": 1}, None)]
)
def test_spatial_mlp_is_made_for_its_number_of_tokens(settings, hidden):
    found = sizes("spatial_mlp", 8, (3, 5, 2), **settings)
    assert (found.tokens, found.hidden) == (17, hidden)


def test_one_spatial_layer_has_no_hidden_width_to_be_whole():
    assert sizes("spatial_mlp", 7, (2, 2), layers=1).hidden is None
    with pytest.raises(Misfit, match=r"a ratio of 0.5 of width 7 is 3.5"):
        sizes("spatial_mlp", 7, (2, 2))


def test_identity_has_no_sizes():
    assert sizes("identity", 8, (2, 2)) == sizes("identity", 16, (4, 4))


WINDOWED = [name for name in mixers.names() if "window" in name]


@pytest.mark.parametrize("mixer", WINDOWED)
@pytest.mark.parametrize(
    ("grid", "by_axis", "square"),
    [
        ((8, 8), ((4, 4), (2, 2)), ((4, 4), (2, 2))),
        ((4, 8), ((4, 4), (0, 2)), ((4, 4), (0, 0))),
        ((8, 2), ((4, 2), (2, 0)), ((2, 2), (0, 0))),
        ((2, 2), ((2, 2), (0, 0)), ((2, 2), (0, 0))),
    ],
)
def test_a_small_grid_cuts_the_window_along_one_axis_or_to_a_square(mixer, grid, by_axis, square):
    settings = {"window": 4, "heads": 2, "shift": "half"}
    for cut, expected in ((None, by_axis), ("axis", by_axis), ("square", square)):
        found = sizes(mixer, 8, grid, **settings, cut=cut)
        assert (found.window, found.shift) == expected


def test_the_window_of_pretraining_is_this_one_unless_it_is_given():
    settings = {"window": 8, "heads": 2}
    assert sizes("cosine_window_attention", 8, (4, 16), **settings).pretrained_window == (4, 8)
    assert sizes("cosine_window_attention", 8, (4, 16), **settings, pretrained_window=6).pretrained_window == (6, 6)
