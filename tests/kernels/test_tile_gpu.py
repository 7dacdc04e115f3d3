"""Attention in one tile on a GPU against its twin in float64, and MAE's network by both paths."""

from __future__ import annotations

import pytest
import torch
from kernels.tile_cases import CASES, errors, inputs

import metablocks as mb
from metablocks.kernels import attention

pytestmark = pytest.mark.gpu
LIMITS = {torch.float16: 2e-3, torch.bfloat16: 2e-2}
LARGE = {"MAE's encoder, a batch": (64, 50, 12, 64), "CAFormer's last stage, a batch": (64, 49, 16, 32)}


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_it_is_its_twin(name: str, dtype: torch.dtype) -> None:
    found = errors((CASES | LARGE)[name], dtype, "cuda")
    assert {what: error for what, error in found.items() if error > LIMITS[dtype]} == {}


def test_its_gradient_is_the_same_to_the_bit_every_time() -> None:
    from metablocks.kernels import tile_launch

    packed, grad, scale = inputs(LARGE["MAE's encoder, a batch"], torch.bfloat16, "cuda")
    first, *others = (tile_launch.gradient(grad, packed, scale) for _ in range(5))
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("compile", ["none", "block"])
def test_a_network_trains_alike_whether_it_takes_it_or_not(compile: str, monkeypatch) -> None:
    found = []
    for name in (attention.OWN, attention.TILE):
        monkeypatch.setattr(attention, "best", torch.compiler.assume_constant_result(lambda *_, name=name: name))
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = mb.build("vit_b32", device="cuda", dtype="bfloat16", compile=compile)
        out = model(torch.linspace(-1, 1, 2 * 3 * 224 * 224, device="cuda").view(2, 3, 224, 224).bfloat16())
        out.float().square().sum().backward()
        found.append([out.detach().float(), model.encoder.stages[0].blocks[0].mixer.op.qkv.weight.grad.float()])
    for ours, goal in zip(found[1], found[0], strict=True):
        assert (ours - goal).norm() / goal.norm() <= 5e-2
    torch._dynamo.reset()
