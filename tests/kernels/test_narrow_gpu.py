"""The channel-MLP branch on a GPU against its modules in float64, and whole networks by both paths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kernels.narrow_cases import CASES, errors, run
from kernels.test_narrow_operation import taken

import metablocks as mb
from metablocks.kernels import branch_trial, trial

pytestmark = pytest.mark.gpu
LIMITS = {torch.float16: 2e-3, torch.bfloat16: 2e-2}
STAGES = {
    f"{name}, a stage": replace(CASES[name], images=8, tokens=3136)
    for name in ("Swin-T", "Swin-B", "CAFormer", "PoolFormer")
}


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("name", [*CASES, *STAGES])
def test_it_is_its_modules(name: str, dtype: torch.dtype) -> None:
    # the device draws other numbers than the CPU, but the same in every call
    found = errors((CASES | STAGES)[name], dtype, "cuda")
    assert {what: error for what, error in found.items() if error > LIMITS[dtype]} == {}


def test_its_gradients_are_the_same_to_the_bit_every_time() -> None:
    case = STAGES["PoolFormer, a stage"]
    first, *others = (
        run(case.branch(torch.bfloat16, "cuda"), case.inputs(torch.bfloat16, "cuda"), whole=True) for _ in range(4)
    )
    assert all(torch.equal(one, other[name]) for other in others for name, one in first.items())


@pytest.mark.parametrize("compile", ["none", "block"])
@pytest.mark.parametrize("spec", ["swin_t", "poolformer_s12", "caformer_s18"])
def test_a_network_trains_alike_whether_it_takes_it_or_not(spec: str, compile: str, monkeypatch) -> None:
    found = []
    for wins in (False, True):
        monkeypatch.setattr(branch_trial, "kernel_wins", lambda *_, wins=wins: wins)
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = mb.build(spec, device="cuda", dtype="bfloat16", compile=compile)
        images = torch.linspace(-1, 1, 2 * 3 * 224 * 224, device="cuda").view(2, 3, 224, 224).bfloat16()
        assert (taken(model, images) > 0) == wins
        out = model(images)
        out.float().square().sum().backward()
        found.append([out.detach().float(), model.encoder.stages[0].blocks[0].mlp.op.fc1.weight.grad.float()])
    for ours, goal in zip(found[1], found[0], strict=True):
        assert (ours - goal).norm() / goal.norm() <= 5e-2
    torch._dynamo.reset()


@pytest.mark.parametrize("keeps", [False, True], ids=["forward", "with a backward pass"])
@pytest.mark.parametrize("name", STAGES)
def test_it_is_tried_beside_a_graph_and_the_verdict_has_no_faults(
    name: str, keeps: bool, monkeypatch, tmp_path
) -> None:
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))
    trial.forget()
    case = STAGES[name]
    shape = (case.images, case.tokens, case.width)
    call = branch_trial.Call(shape, torch.bfloat16, torch.device("cuda"), case.known, keeps, True)
    branch_trial.kernel_wins(case.branch(torch.bfloat16, "cuda"), call)
    (found,) = [one for (_, key), one in trial._known.items() if key.startswith("branch")]
    assert not found.faults
    trial.forget()
