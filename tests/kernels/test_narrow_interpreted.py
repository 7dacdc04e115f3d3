"""A channel-MLP branch in Triton's interpreter against its modules in float64, what is moved, and a trial of it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import interpreted, reached, touched_elements
from kernels.narrow_cases import CASES, STAR, Case, errors, run

from metablocks.kernels import branch_trial, narrow_launch, trial
from metablocks.kernels.narrow_twin import Weights, elements

pytestmark = interpreted


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_modules_in_single_precision(name: str) -> None:
    found = errors(CASES[name], torch.float32)
    assert {what: error for what, error in found.items() if error > 1e-6} == {}


@pytest.mark.parametrize("name", CASES)
def test_it_is_close_to_them_in_half_precision(name: str) -> None:
    found = errors(CASES[name], torch.float16)
    assert {what: error for what, error in found.items() if error > 1e-3} == {}


@settings(max_examples=15, derandomize=True)  # fp32: now and then the modules miss 1e-6, too
@given(
    sizes=st.tuples(st.integers(1, 16).map(lambda n: 8 * n), st.integers(1, 6).map(lambda n: 32 * n)),
    tokens=st.tuples(st.integers(1, 3), st.integers(1, 140)),
    activation=st.sampled_from(["gelu", STAR, "squared_relu"]),
    there=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    scales=st.tuples(st.sampled_from([None, 0.5]), st.sampled_from([None, 0.5]), st.booleans()),
)
def test_random_branches_are_their_modules(sizes, tokens, activation, there, scales) -> None:
    found = errors(Case(*sizes, *tokens, activation, *there, *scales), torch.float32)
    assert {what: error for what, error in found.items() if error > 1e-6} == {}


@pytest.mark.parametrize("capability", [80, 90])
def test_tiles_of_every_gpu_give_the_same(capability: int, monkeypatch) -> None:
    monkeypatch.setattr(narrow_launch, "_capability", lambda _: capability)
    found = errors(replace(CASES["PoolFormer, wide"], tokens=130), torch.float32)
    assert {what: error for what, error in found.items() if error > 1e-6} == {}


def test_gradients_are_the_same_to_the_bit_every_time() -> None:
    case = replace(CASES["PoolFormer"], tokens=150)
    first, second = (run(case.branch(torch.float16), case.inputs(torch.float16), whole=True) for _ in range(2))
    assert all(torch.equal(one, second[name]) for name, one in first.items())


@pytest.mark.parametrize("known", [False, True], ids=["of tokens", "of images"])
def test_tokens_are_read_and_written_as_often_as_is_said(known: bool, monkeypatch) -> None:
    """Of maps; each element is written once, and what is read again is the same."""
    images, tokens, width, hidden = 3, 50, 40, 96
    x, grad = torch.randn(2, images, tokens, width)
    shapes = ((hidden, width), (hidden,), (width, hidden), (width,), (width,))
    weights, kept = Weights(*(torch.randn(shape) for shape in shapes)), torch.rand(images)
    statistics = (torch.randn(images), torch.rand(images)) if known else None
    touched, found = touched_elements(monkeypatch), []

    def count(made: tuple[torch.Tensor, ...]) -> None:
        maps = [one for one in (x, grad, *made) if one.shape == x.shape]
        found.append(sum(reached(touched, one) for one in maps))
        assert {times for (what, _), times in touched.items() if what == "written"} == {1}
        touched.clear()

    how = (1e-5, True)
    count((narrow_launch.branch(x, weights, (None, kept), statistics, how),))
    count(narrow_launch.backward_tokens(grad, x, weights, (None, kept), statistics, how))
    count(narrow_launch.backward_weights(grad, x, weights, kept, statistics, how))
    assert (found[0], found[1] + found[2]) == elements(images, tokens, width)


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "compiled"])
def test_it_is_tried_with_its_kernels_and_taken_where_it_is_the_fastest(graph: bool, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(branch_trial, "DEVICES", ("cpu",))
    monkeypatch.setattr(branch_trial, "BACKEND", "aot_eager")
    monkeypatch.setattr(trial, "off", lambda _: False)
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))
    monkeypatch.setattr(trial, "_seconds", lambda call, _: (call(), call.args[0] != branch_trial.KERNEL)[1])
    trial.forget()
    case = CASES["PoolFormer"]
    branch, given = case.branch(torch.float16), case.inputs(torch.float16)
    call = branch_trial.Call(tuple(given[0].shape), torch.float16, torch.device("cpu"), True, True, graph)
    assert branch_trial.kernel_wins(branch, call)
    (key,) = trial.choices()
    assert trial.choices()[key] == "kernel"
    trial.forget()
    torch._dynamo.reset()


def test_half_precision_loses_no_gradient_to_a_small_layer_scale() -> None:
    case, scaled = Case(64, 256, known=True, layer_scale=1e-6), 1000.0  # the loss
    branch, given = case.branch(torch.float16), case.inputs(torch.float16)
    with torch.no_grad():
        branch.layer_scale.mul_(1e-6)
        branch.op.fc2.weight.mul_(0.1)
    exact = [one.detach().double().requires_grad_() for one in given]
    found = run(branch, given, whole=True, above=scaled)
    goals = run(copy.deepcopy(branch).double(), exact, whole=False, above=scaled)
    for name in ("op.fc1.weight", "op.fc1.bias", "norm.weight", "norm.bias"):
        assert float((found[name].double() - goals[name]).norm() / goals[name].norm()) < 2e-3, name
