"""What one call does: a forward pass or a step, on inputs that are seeded, no zeros, and rotated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metablocks.bench import models, work
from metablocks.bench.models import Shape

from .conftest import case


def job(**conditions: Any) -> work.Work:
    one = case(**conditions)
    found = models.load(one)
    return work.work(one, found.model, found.shapes, one.batch)


def test_inputs_are_normal_different_and_the_same_every_time() -> None:
    first, again = (work.batches(case(), [Shape((3, 16, 16))], 2) for _ in range(2))
    assert len(first) == 3
    assert [one[0].shape for one in first] == [(2, 3, 16, 16)] * 3
    assert all(torch.equal(one[0], two[0]) for one, two in zip(first, again, strict=True))
    assert len({float(one[0].sum()) for one in first}) == 3
    assert all(one[0].count_nonzero() == one[0].numel() and 0.8 < one[0].std() < 1.2 for one in first)


def test_inputs_are_of_the_dtype_and_layout_of_the_case() -> None:
    shapes = [Shape((3, 16, 16)), Shape((9,), exact=True), Shape((2,), like=torch.tensor([[4, 5], [6, 7]]))]
    images, noise, words = work.batches(case(dtype="bfloat16", channels_last=True), shapes, 3)[0]
    assert images.dtype == torch.bfloat16
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert noise.dtype == torch.float32
    assert torch.equal(words, torch.tensor([[4, 5]] * 3))
    assert work.batches(case(dtype="amp_bfloat16"), shapes[:1], 3)[0][0].dtype == torch.float32


def test_calls_rotate_through_the_inputs() -> None:
    seen: list[float] = []

    class Seeing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(float(x.sum()))
            return x

    one = work.work(case(), Seeing(), [Shape((4,))], 2)
    for _ in range(6):
        one.call()
    assert len(set(seen[:3])) == 3
    assert seen[:3] == seen[3:]


def test_inference_keeps_no_graph_and_has_no_parts() -> None:
    one = job()
    output = one.call()
    assert output.is_inference()
    assert not one.model.training
    assert one.parts() == ()


@pytest.mark.parametrize("dtype", ["float32", "amp_bfloat16", "bfloat16"])
def test_a_step_goes_forward_backward_and_moves_every_weight(dtype: str) -> None:
    one = job(mode="train", dtype=dtype)
    assert one.model.training
    before = [parameter.detach().clone() for parameter in one.model.parameters()]
    assert [name for name, _ in one.parts()] == ["forward", "backward", "optimiser"]
    lost = one.call()
    assert torch.isfinite(lost)
    assert not lost.requires_grad
    moved = [not torch.equal(*two) for two in zip(before, one.model.parameters(), strict=True)]
    # in bfloat16 an update is less than a weight about 1 can tell, so those of norms stand still
    assert any(moved) if dtype == "bfloat16" else all(moved)


def test_training_lowers_the_loss() -> None:
    one = job(mode="train")
    losses = [float(one.call()) for _ in range(300)]
    assert sum(losses[-3:]) < sum(losses[:3])


def test_autocast_computes_in_the_other_dtype_and_plain_in_its_own() -> None:
    assert job(dtype="amp_bfloat16").call().dtype == torch.bfloat16
    assert job(dtype="bfloat16").call().dtype == torch.bfloat16
    assert job(dtype="float64").call().dtype == torch.float64
    assert job().call().dtype == torch.float32


def test_frozen_weights_are_not_trained() -> None:
    frozen = nn.Linear(4, 4).requires_grad_(False)
    model = nn.Sequential(frozen, nn.Linear(4, 4))
    one = work.work(case(mode="train"), model, [Shape((4,))], 2)
    before = frozen.weight.clone()
    one.call()
    assert torch.equal(frozen.weight, before)


def test_the_loss_is_the_networks_own_else_of_logits_else_of_whatever_comes_out() -> None:
    class Own:
        loss = torch.tensor(7.0)

    assert work.loss(Own()) == 7
    assert work.loss(torch.eye(3) * 100) == 0
    assert work.loss((torch.full((2, 2, 2), 3.0), "more")) == 9
    assert work.loss((torch.tensor(3.0), torch.ones(2, 2))) == 3
    assert work.loss({"out": torch.full((2, 2, 2), 3.0)}) == 9


def test_outputs_of_any_wrapping_are_checked_for_finite_numbers() -> None:
    good, bad = torch.ones(2), torch.tensor([1.0, float("nan")])
    assert work.finite((good, torch.tensor([1]), None))
    assert not work.finite({"a": good, "b": bad})
    assert not work.finite([torch.tensor(float("inf"))])


def test_differences_are_relative_to_the_largest_value_and_allowed_by_dtype() -> None:
    one, other = torch.tensor([0.0, 100.0]), torch.tensor([1.0, 100.0])
    seen = work.compared(one, other, "float32")
    assert (seen.largest, seen.allowed) == (0.01, False)
    assert work.compared(one, other, "amp_bfloat16").allowed
    assert work.compared(one, one, "float64").largest == 0
    assert not work.compared(one, torch.tensor([float("nan"), 1.0]), "bfloat16").allowed
    with pytest.raises(ValueError, match=r"shorter|longer"):
        work.compared((one, one), (one,), "float32")
