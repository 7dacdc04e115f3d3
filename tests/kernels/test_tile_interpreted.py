"""Attention in one tile in Triton's interpreter against its twin in float64, what is moved, and a trial of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import interpreted, moved_elements
from kernels.tile_cases import CASES, errors, inputs

from metablocks.kernels import attention as tried
from metablocks.kernels import tile_twin, trial

pytestmark = interpreted
LIMITS = {torch.float32: 1e-6, torch.float16: 1e-3}


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_it_is_its_twin(name: str, dtype: torch.dtype) -> None:
    found = errors(CASES[name], dtype)
    assert {what: error for what, error in found.items() if error > LIMITS[dtype]} == {}


@settings(max_examples=12)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 3), st.integers(4, 40)),
    dtype=st.sampled_from(list(LIMITS)),
)
def test_any_shape_is_that_of_the_twin(shape, dtype) -> None:
    found = errors(shape, dtype, overall=True)
    assert {what: error for what, error in found.items() if error > LIMITS[dtype]} == {}


def test_of_nothing_comes_nothing() -> None:
    from metablocks.kernels import tile_launch

    packed = torch.empty(0, 50, 3, 2, 16, dtype=torch.float16)
    assert tile_launch.attention(packed, 0.25).shape == (0, 50, 32)
    assert tile_launch.gradient(torch.empty(0, 50, 32), packed, 0.25).shape == packed.shape


@pytest.mark.parametrize("name", ["MAE's encoder", "channels that no vector divides"])
def test_tokens_are_read_and_written_as_often_as_is_said(name: str, monkeypatch) -> None:
    from metablocks.kernels import tile_launch

    images, tokens, heads, width = CASES[name]
    packed, grad, scale = inputs(CASES[name], torch.float16)
    moved = moved_elements(monkeypatch)
    tile_launch.attention(packed, scale)
    forward = moved.pop(2)
    tile_launch.gradient(grad, packed, scale)
    assert (forward, moved.pop(2)) == tile_twin.elements(images, tokens, heads * width)
    assert not moved  # and nothing else


@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_it_is_tried_and_taken_with_its_kernels_where_it_is_the_fastest(how: str, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(tried, "DEVICES", ("cpu",))
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))
    monkeypatch.setattr(trial, "_seconds", lambda call, _: (call(), call.args[-1] != tried.TILE)[1])
    trial.forget()
    attend = tried.attention if how == "eager" else torch.compile(tried.attention, fullgraph=True, backend="aot_eager")
    packed, grad, scale = inputs((2, 50, 2, 16), torch.float16)
    made = attend(packed.requires_grad_(), scale, True)
    made.backward(grad)
    assert trial.choices() == {"attention 2 x 2 x 50 x 16, torch.float16, backward, tile": "tile"}
    trial.forget()
    exact = packed.detach().double().requires_grad_()
    goal = tile_twin.attention(exact, scale)
    goal.backward(grad.double())
    torch.testing.assert_close(made.double(), goal, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(packed.grad.double(), exact.grad, atol=2e-3, rtol=2e-3)
    torch._dynamo.reset()
