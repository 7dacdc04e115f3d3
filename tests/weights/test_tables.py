"""Tables of offsets and positions for another window or grid, as each publisher resamples them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metablocks.weights.tables import bicubic_offsets, geometric_offsets

TIMM = load_file(Path(__file__).parents[1] / "reference" / "interp_timm.io.safetensors")


@pytest.mark.parametrize(("number", "window"), [(5, (6, 6)), (6, (7, 7)), (7, (4, 6))])
def test_offsets_are_resampled_as_timm_does(number, window):
    made = geometric_offsets(TIMM[f"in{number}"], window)
    torch.testing.assert_close(made, TIMM[f"out{number}"], atol=2e-6, rtol=0)


@pytest.mark.parametrize("resample", [geometric_offsets, bicubic_offsets])
@pytest.mark.parametrize("window", [(1, 1), (2, 2), (3, 5), (8, 4), (12, 12)])
def test_a_table_gets_a_row_for_each_offset_of_the_window(resample, window):
    made = resample(torch.randn(49, 3), window)
    assert made.shape == ((2 * window[0] - 1) * (2 * window[1] - 1), 3)
    constant = resample(torch.full((49, 3), 2.5), window)
    torch.testing.assert_close(constant, torch.full_like(made, 2.5))


@pytest.mark.parametrize("resample", [geometric_offsets, bicubic_offsets])
def test_a_table_of_the_same_window_is_not_touched(resample):
    table = torch.randn(49, 3)
    assert resample(table, (4, 4)) is table


def test_a_table_of_one_token_is_spread_over_any_window():
    assert torch.equal(geometric_offsets(torch.ones(1, 2), (3, 3)), torch.ones(25, 2))


@pytest.mark.parametrize("resample", [geometric_offsets, bicubic_offsets])
def test_a_table_that_is_of_no_square_window_stays_as_it_is(resample):
    table = torch.randn(21, 3)  # of a window of 2 x 4
    assert resample(table, (2, 4)) is table
    assert resample(table, (4, 4)) is table


def test_the_offset_of_a_token_to_itself_keeps_its_value():
    table = torch.randn(49, 3)
    for window in ((6, 6), (9, 5)):
        made = geometric_offsets(table, window)
        torch.testing.assert_close(made[len(made) // 2], table[24])


def test_rows_and_columns_are_not_mixed_up():
    down = torch.arange(7.0)[:, None].expand(7, 7).reshape(49, 1)
    for resample in (geometric_offsets, bicubic_offsets):
        image = resample(down, (6, 3)).view(11, 5)
        assert (image[1:] >= image[:-1] - 1e-5).all()
        torch.testing.assert_close(image, image[:, :1].expand(-1, 5))


@pytest.mark.parametrize("table", [torch.ones(()), torch.ones(4, 2), torch.ones(0, 2), torch.ones(2, 49, 2)])
def test_what_is_no_table_of_offsets_stays_as_it_is(table):
    assert geometric_offsets(table, (3, 3)) is table
    assert bicubic_offsets(table, (3, 3)) is table


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_the_precision_of_a_table_is_kept(kind):
    table = torch.randn(49, 3).to(kind)
    assert bicubic_offsets(table, (6, 6)).dtype == geometric_offsets(table, (6, 6)).dtype == kind
