"""Fused window attention on a GPU against its twin in float64: the output and every gradient."""

from __future__ import annotations

import pytest
import torch
from kernels.window_cases import CASES, errors

import metablocks as mb

pytestmark = pytest.mark.gpu
LIMITS = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def _kernels_run_untried(monkeypatch):
    monkeypatch.setenv("METABLOCKS_TRIAL", "off")


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_it_is_its_twin(name: str, dtype: torch.dtype) -> None:
    found = errors(CASES[name], dtype, "cuda")
    assert {what: error for what, error in found.items() if error > LIMITS[dtype]} == {}


@pytest.mark.parametrize("name", ["7, shifted", "8, shifted, cosine", "16, shifted"])
def test_every_gradient_is_the_same_to_the_bit_every_time(name: str) -> None:
    from metablocks.kernels import window_launch

    case = CASES[name]
    inputs, grad = case.inputs(torch.bfloat16, "cuda")
    first, *others = (window_launch.gradients(grad, *inputs.values(), case.windows, 0.3) for _ in range(5))
    assert all(torch.equal(one, two) for other in others for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("spec", ["swin_t", "swinv2_t_w8", "swinv2_t_w16"])
@pytest.mark.parametrize("compile", ["none", "block"])
def test_a_network_gives_the_same_numbers_by_both_paths(spec: str, compile: str) -> None:
    found = []
    for kernels in ("reference", "fused"):
        torch.manual_seed(0)
        model = mb.build(spec, device="cuda", compile=compile, kernels=kernels)
        side = model.plan.encoder.stem.image[0]
        with torch.inference_mode():
            found.append(model(torch.ones(2, 3, side, side, device="cuda").cumsum(3) / side))
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
