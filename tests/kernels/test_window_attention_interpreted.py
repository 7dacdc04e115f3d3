"""Fused window attention in Triton's interpreter against its twin in float64: the output and every gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import interpreted
from kernels.window_cases import CASES, Case, errors

from metablocks.kernels.window_layout import Windows

pytestmark = interpreted


@pytest.mark.parametrize("name", CASES)
def test_it_is_its_twin_in_single_precision(name: str) -> None:
    found = errors(CASES[name], torch.float32)
    assert {what: error for what, error in found.items() if error > 1e-6} == {}


@pytest.mark.parametrize("name", ["7, shifted, padded", "8, shifted, cosine", "9, shifted"])
def test_it_is_close_to_its_twin_in_half_precision(name: str) -> None:
    found = errors(CASES[name], torch.float16)
    assert {what: error for what, error in found.items() if error > 1e-3} == {}


sides = st.integers(1, 5)


@st.composite
def random_cases(draw) -> Case:
    """Any window, on a map that it may not tile, shifted by less than itself where the map is longer than it."""
    window, grid = (draw(sides), draw(sides)), (draw(sides), draw(sides))
    window = (min(window[0], grid[0]), min(window[1], grid[1]))
    shift = tuple(
        draw(st.integers(0, side - 1)) if length > side else 0 for side, length in zip(window, grid, strict=True)
    )
    table = (window[0] + draw(st.integers(0, 2)), window[1] + draw(st.integers(0, 2)))
    windows = Windows(draw(st.integers(1, 2)), grid, window, shift, table)
    cosine = draw(st.booleans())
    # of a cosine of one channel the gradient is zero, and what comes out is rounding
    head_dim = draw(st.integers(2 if cosine else 1, 9))
    return Case(windows, head_dim, draw(st.integers(1, 2)), draw(st.booleans()), cosine)


@settings(max_examples=12)
@given(case=random_cases())
def test_random_windows_are_those_of_the_twin(case: Case) -> None:
    # two channels a head: of such cosines a single gradient is what is left of larger ones
    found = errors(case, torch.float32, overall=True)
    assert {what: error for what, error in found.items() if error > 1e-6} == {}


@pytest.mark.parametrize("name", ["7, not shifted", "9, shifted"])
def test_the_gradient_of_the_bias_is_the_same_to_the_bit_every_time(name: str) -> None:
    from metablocks.kernels import window_launch

    case = CASES[name]
    inputs, grad = case.inputs(torch.float32)
    runs = [window_launch.gradients(grad, *inputs.values(), case.windows, 0.3)[1] for _ in range(2)]
    assert torch.equal(*runs)
