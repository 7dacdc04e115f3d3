"""What the kernels of window attention say that they read and write, counted load by load in Triton's interpreter."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from interpreter import interpreted, moved_elements
from kernels.window_cases import CASES, NAMES

from metablocks.kernels.window_layout import elements

pytestmark = interpreted
FIRST = ("7, not shifted", "7, padded, qkv without bias", "8, shifted, cosine", "9, shifted", "12, shifted")


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    return moved_elements(monkeypatch)


def given(name: str) -> tuple[list, torch.Tensor]:
    """Maps in half precision, all else in single, so that the two are told apart by their size."""
    inputs, grad = CASES[name].inputs(torch.float16)
    own = [inputs[one] if inputs[one] is None or one == "qkv" else inputs[one].float() for one in NAMES]
    return [*own, CASES[name].windows, 0.3], grad


def declared(name: str) -> tuple[int, int]:
    case = CASES[name]
    return elements(case.windows, case.images, case.windows.heads * case.head_dim)


@pytest.mark.parametrize("name", FIRST)
def test_maps_are_read_and_written_as_often_as_is_said(name: str, moved: Counter[int]) -> None:
    from metablocks.kernels import window_launch

    inputs, grad = given(name)
    window_launch.attention(*inputs)
    assert moved.pop(2) == declared(name)[0]
    window_launch.gradients(grad, *inputs)
    assert moved.pop(2) == declared(name)[1]


@pytest.mark.parametrize("name", ["7, not shifted", "9, shifted"])
def test_beside_maps_the_forward_pass_reads_one_element_of_bias_a_score(name: str, moved: Counter[int]) -> None:
    from metablocks.kernels import window_launch

    inputs, _ = given(name)
    windows = CASES[name].windows
    window_launch._spread(inputs[1], windows)
    spread = moved.pop(4)
    window_launch.attention(*inputs)
    assert moved[4] - spread == CASES[name].images * windows.count * windows.heads * windows.places**2
