"""A branch is left to its kernel where that is right and surely faster than what is compiled of its modules."""

from __future__ import annotations

import pytest
import torch
from interpreter import INTERPRETS
from kernels.test_narrow_operation import CAFORMER, NETWORKS, POOLFORMER, SWIN, images, network, taken

from metablocks.kernels import branch_trial, narrow_twin, trial
from metablocks.kernels.branch_trial import KERNEL, MODULES, RIVAL
from metablocks.parts.mlp import ChannelMlp

pytestmark = pytest.mark.skipif(INTERPRETS, reason="kernels stand in for Triton's here")
TIMES = {RIVAL: 1.0, KERNEL: 0.5, MODULES: 2.0}


@pytest.fixture
def times(monkeypatch, tmp_path):
    """A CPU tries too, with the twin for a kernel; each call takes as long as this says."""
    found = dict(TIMES)
    monkeypatch.setattr(branch_trial, "DEVICES", ("cpu",))
    monkeypatch.setattr(branch_trial, "BACKEND", "aot_eager")
    monkeypatch.setattr(ChannelMlp, "has_kernels", lambda *_: True)
    monkeypatch.setattr(trial, "off", lambda _: False)
    monkeypatch.setattr(trial, "_seconds", lambda call, _: (call(), found[call.args[0]])[1])
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))
    trial.forget()
    torch._dynamo.reset()
    yield found
    trial.forget()
    torch._dynamo.reset()


def verdicts() -> dict[str, trial.Verdict]:
    return {key: found for (_, key), found in trial._known.items() if key.startswith("branch")}


@pytest.mark.parametrize("wins", [True, False], ids=["kernel", "modules"])
@pytest.mark.parametrize("how", ["none", "block", "model"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_fastest_is_in_one_graph_and_gives_the_same_numbers(times, name, how, wins) -> None:
    times[KERNEL] = 0.5 if wins else 1.0  # as fast is not faster
    plain = network(**NETWORKS[name], kernels="reference")
    model = network(**NETWORKS[name], kernels="fused", compile=how, backend="aot_eager")
    with torch.inference_mode():
        torch.testing.assert_close(model(images()), plain(images()), atol=1e-5, rtol=1e-5)
        assert taken(model) == (2 if wins else 0)
    found = []
    for one in (model.train(), plain.train()):
        one(images()).square().sum().backward()
        found.append([parameter.grad for parameter in one.parameters()])
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
    # stands in records: as long as there is no way around, one for each pass
    assert [one.chosen for one in verdicts().values()] == 2 * [KERNEL if wins else RIVAL]
    assert [*verdicts()] == [key for key in trial.choices() if key.startswith("branch")]


def test_a_verdict_says_what_was_tried(times) -> None:  # noqa: ARG001
    with torch.no_grad():
        network(**POOLFORMER, kernels="fused")(images())
        network(**SWIN, kernels="fused", compile="block", backend="aot_eager")(images(4))
    network(**CAFORMER, drop=0.1, kernels="fused").train()(images(5))
    assert [*verdicts()] == [
        "branch 2 x 64 x 16, torch.float32, 64 hidden, GELU, bias, known, layer_scale",
        "branch 2 x 64 x 16, torch.float32, 64 hidden, GELU, bias, compiled",
        "branch 3 x 64 x 16, torch.float32, 64 hidden, StarReLU, drops path, res_scale, norm without bias, backward",
    ]


def test_a_kernel_that_is_wrong_is_not_taken(times, monkeypatch) -> None:  # noqa: ARG001
    right = narrow_twin.branch
    monkeypatch.setattr(narrow_twin, "branch", lambda *given: 1.01 * right(*given))
    with torch.no_grad():
        assert taken(network(**SWIN, kernels="fused")) == 0
    (found,) = verdicts().values()
    assert found.faults[KERNEL].startswith("result 0 is off by 1.")
    assert found.chosen == RIVAL


def test_a_kernel_with_one_wrong_gradient_is_not_taken_for_training(times, monkeypatch) -> None:  # noqa: ARG001
    right = narrow_twin.backward_weights

    def wrong(*given):
        made = right(*given)
        return made[0] * 1.01, *made[1:]

    monkeypatch.setattr(narrow_twin, "backward_weights", wrong)
    assert taken(network(**SWIN, kernels="fused")) == 0
    (found,) = verdicts().values()
    assert "is off by" in found.faults[KERNEL]


RIGHT = narrow_twin.branch


def spoilt(name, index, by):
    """A pass of the twin with one of its results multiplied."""
    right = getattr(narrow_twin, name)

    def wrong(*given):
        made = right(*given)
        return by * made if index is None else tuple(by * one if at == index else one for at, one in enumerate(made))

    return name, wrong


FAULTS = {
    "little of the branch": ("branch", lambda x, *rest: x + 0.8 * (RIGHT(x, *rest) - x)),
    "no shift": ("branch", lambda x, weights, *rest: RIGHT(x, weights._replace(shift=None), *rest)),
    "no offset": ("branch", lambda x, weights, *rest: RIGHT(x, weights._replace(offset=None), *rest)),
    "no drop path": ("branch", lambda x, w, scales, *rest: RIGHT(x, w, (scales[0], None), *rest)),
    "gradient of tokens": spoilt("backward_tokens", 0, 0.8),
    "gradient of statistics": spoilt("backward_tokens", 1, 0.0),
    "gradient of the first layer": spoilt("backward_weights", 0, 0.0),
    "gradient of the shift": spoilt("backward_weights", 1, 0.0),
    "gradient of the second layer": spoilt("backward_weights", 2, 0.0),
    "gradient of the offset": spoilt("backward_weights", 3, 0.0),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("times")
def test_a_fault_is_seen_though_a_fresh_network_does_not_show_it(monkeypatch, tmp_path, fault) -> None:
    model = network(**POOLFORMER, drop=0.1, kernels="fused").train()
    block = model.encoder.stages[0].blocks[0]
    block.mlp.reset_parameters()  # as small as it is at the beginning
    block.set_drop_rate(0.0)
    call = branch_trial.Call((2, 64, 16), torch.float32, torch.device("cpu"), True, True, False)
    assert branch_trial.kernel_wins(block.mlp, call)
    trial.forget()
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(narrow_twin, *FAULTS[fault])
    assert not branch_trial.kernel_wins(block.mlp, call)


@pytest.mark.parametrize("how", ["none", "block"])
def test_a_checkpointed_network_is_tried_and_trains(times, how) -> None:  # noqa: ARG001
    grads = []
    for kernels in ("fused", "reference"):
        torch._dynamo.reset()
        model = network(**SWIN, kernels=kernels, compile=how, backend="aot_eager", checkpoint=True).train()
        model(images()).square().sum().backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*grads, atol=1e-5, rtol=1e-5)
    assert [one.chosen for one in verdicts().values()] == [KERNEL]


def test_what_is_frozen_has_a_verdict_of_its_own(times) -> None:  # noqa: ARG001
    model = network(**SWIN, kernels="fused").train()
    branch = model.encoder.stages[0].blocks[0].mlp
    for name, parameter in branch.named_parameters():
        parameter.requires_grad_(name.startswith("op.fc1"))
    model(images()).sum().backward()
    assert any(key.endswith("backward, frozen norm.weight norm.bias op.fc2.weight op.fc2.bias") for key in verdicts())


def fails(*_):
    raise RuntimeError("PassManager::run failed")


def test_a_kernel_that_raises_is_not_taken_nor_one_with_no_graph_to_beat(times, monkeypatch) -> None:
    monkeypatch.setattr(narrow_twin, "branch", fails)
    times[RIVAL] = 3.0
    with torch.no_grad():
        assert taken(network(**SWIN, kernels="fused")) == 0
    (found,) = verdicts().values()
    assert (found.chosen, found.faults[KERNEL]) == (MODULES, "RuntimeError: PassManager::run failed")
    monkeypatch.undo()


def test_a_kernel_is_not_taken_where_the_compiler_fails_beside_it(times, monkeypatch) -> None:  # noqa: ARG001
    monkeypatch.setattr(branch_trial, "_compiled", lambda _: fails)
    branch = network(**SWIN, kernels="fused").encoder.stages[0].blocks[0].mlp
    call = branch_trial.Call((2, 64, 16), torch.float32, torch.device("cpu"), False, False, True)
    assert not branch_trial.kernel_wins(branch, call)
    (found,) = verdicts().values()
    assert (found.chosen, set(found.faults)) == (MODULES, {RIVAL, KERNEL})


def test_there_is_nothing_to_try_where_there_are_no_kernels(times, monkeypatch) -> None:  # noqa: ARG001
    monkeypatch.setattr(ChannelMlp, "has_kernels", lambda *_: False)
    assert taken(network(**SWIN, kernels="fused")) == 0
    assert verdicts() == {}


def test_a_trial_draws_no_random_numbers_and_leaves_no_gradients(times) -> None:  # noqa: ARG001
    model = network(**SWIN, drop=0.5, kernels="fused").train()
    branch = model.encoder.stages[0].blocks[1].mlp
    call = branch_trial.Call((2, 64, 16), torch.float32, torch.device("cpu"), False, True, True)
    before = torch.random.get_rng_state()
    with torch.inference_mode():
        assert branch_trial.kernel_wins(branch, call)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_inductor_compiles_what_is_tried_while_a_graph_is_traced(times, monkeypatch) -> None:  # noqa: ARG001
    monkeypatch.setattr(branch_trial, "BACKEND", "inductor")
    monkeypatch.setitem(branch_trial.INDUCTOR, "cuda", {})
    model = network(**SWIN, kernels="fused", compile="block", backend="aot_eager")
    plain = network(**SWIN, kernels="reference")
    torch.testing.assert_close(model(images()), plain(images()), atol=1e-5, rtol=1e-5)
    (found,) = verdicts().values()
    assert (found.chosen, dict(found.faults)) == (KERNEL, {})
