"""The pooling branch on a GPU against the plain formula in float64: what comes out and every gradient."""

from __future__ import annotations

import pytest
import torch
from kernels.pool_cases import CASES, Case, errors

import metablocks as mb

pytestmark = pytest.mark.gpu
LIMITS = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
STAGES = {f"stage {index}": Case((side, side), width) for index, (side, width) in enumerate([(56, 64), (7, 512)])}


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("name", [*CASES, *STAGES])
def test_it_is_the_plain_formula(name: str, dtype: torch.dtype) -> None:
    found = errors((CASES | STAGES)[name], dtype, "cuda")
    assert {what: error for what, error in found.items() if error > LIMITS[dtype]} == {}


@pytest.mark.parametrize("compile", ["none", "block"])
def test_a_network_gives_the_same_numbers_by_both_paths(compile: str) -> None:
    found = []
    for kernels in ("reference", "fused"):
        torch.manual_seed(0)
        model = mb.build("poolformer_s12", device="cuda", compile=compile, kernels=kernels)
        with torch.inference_mode():
            found.append(model(torch.ones(2, 3, 224, 224, device="cuda").cumsum(3) / 224))
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
