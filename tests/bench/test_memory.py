from __future__ import annotations

import pytest
import torch
from torch import nn

from metablocks.bench import memory
from metablocks.bench.work import Work
from metablocks.kernels import cpu_products, cpu_weights

MIB = 1 << 20
INPUTS = [(torch.ones(1, 4),)]


class Grows(nn.Module):
    """Holds a MiB, and needs blocks of so many MiB in a call, one after the other."""

    def __init__(self, blocks: list[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(MIB // 4))
        self.blocks = blocks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + sum(torch.ones(size * MIB // 4).sum() for size in self.blocks) * self.weight.sum()


def measured(model: nn.Module, optimiser: torch.optim.Optimizer | None = None) -> memory.Memory:
    found = memory.measured(Work(model, INPUTS, optimiser=optimiser), "cpu")
    if found.peak_bytes is None:
        pytest.skip("this system does not tell the peak of a process")
    return found


def test_an_allocation_of_known_size_raises_the_peak_by_that():
    found = measured(Grows([256]))
    assert found.activations_bytes == pytest.approx(256 * MIB, rel=0.02)
    assert (found.parameters_bytes, found.gradients_bytes, found.optimiser_bytes) == (MIB, 0, 0)
    assert found.peak_bytes == found.parameters_bytes + found.activations_bytes


def test_copies_of_weights_that_are_kept_from_call_to_call_count(monkeypatch):
    monkeypatch.setattr(cpu_weights, "copies", cpu_weights.Copies())
    if not cpu_products.runs():
        pytest.skip("torch has no oneDNN here")

    class Product(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mark = torch.tensor(1)
            return cpu_products.product(x.expand(4, -1), self.weight.detach(), None, "none", mark)

    found = measured(Product(4, 8 * MIB))
    assert found.activations_bytes == pytest.approx(2 * 128 * MIB, rel=0.05)  # the copy, what comes out


def test_a_second_measurement_does_not_inherit_the_peak_of_the_first():
    measured(Grows([256]))
    assert measured(Grows([64])).activations_bytes == pytest.approx(64 * MIB, rel=0.03)


def test_holes_in_the_heap_are_not_counted():
    held = [torch.ones(MIB * size // 4) for size in (32, *range(1, 24))]
    del held[::2]  # the first is large: from then on the C library keeps what is smaller in its heap
    found = measured(Grows([*range(1, 24), 32]))
    if found.method == memory.LINUX:
        pytest.skip("not glibc")
    assert found.activations_bytes == pytest.approx(32 * MIB, rel=0.05)


def test_the_parts_of_a_step_are_told_apart():
    model = nn.Sequential(nn.Linear(4, 1024), nn.Linear(1024, 1024))
    found = measured(model, torch.optim.AdamW(model.parameters()))
    held = 4 * sum(one.numel() for one in model.parameters())
    assert found.parameters_bytes == found.gradients_bytes == held
    assert found.optimiser_bytes == 2 * held + 4 * len(list(model.parameters()))
    parts = (found.parameters_bytes, found.gradients_bytes, found.optimiser_bytes, found.activations_bytes)
    assert sum(parts) == found.peak_bytes


def test_buffers_count_and_shared_storage_counts_once():
    model = nn.BatchNorm1d(8)
    model.register_buffer("same", model.running_mean.view(2, 4))
    assert memory.nbytes(memory.tensors(model)) == 4 * 4 * 8 + 8


def test_where_the_system_tells_nothing_the_peak_is_absent_and_the_rest_is_told(monkeypatch):
    monkeypatch.setattr(memory, "resident", lambda key="VmRSS": None)  # noqa: ARG005
    found = memory.measured(Work(Grows([1]), INPUTS), "cpu")
    assert (found.peak_bytes, found.method, found.activations_bytes) == (None, None, None)
    assert found.parameters_bytes == MIB


def test_the_resident_set_is_read_in_bytes():
    found = memory.resident()
    if found is None:
        pytest.skip("no /proc/self/status")
    assert 10 * MIB < found <= memory.resident("VmHWM")
    assert memory.resident("NoSuchKey") is None


@pytest.mark.gpu
def test_on_a_gpu_the_allocator_tells():
    class Wants(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, device="cuda"))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.ones(64 * MIB // 4, device="cuda").sum() * self.weight

    found = memory.measured(Work(Wants(), [(torch.ones(1, 4, device="cuda"),)]), "cuda")
    assert found.activations_bytes == pytest.approx(64 * MIB, rel=0.02)
    assert found.method == memory.CUDA
