"""The roof: what was reached at best, of every dtype that the device multiplies."""

from __future__ import annotations

import itertools

import pytest
import torch

from metablocks.bench import peaks as module
from metablocks.bench.peaks import peaks


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(module, "SIDES", {"cpu": (64, 128), "cuda": (1024,)})
    monkeypatch.setattr(module, "BATCHES", {"cpu": (1,), "cuda": (4,)})
    monkeypatch.setattr(module, "COPIED", {"cpu": (1 << 20,), "cuda": (1 << 26,)})
    monkeypatch.setattr(module, "SECONDS", 0.01)


def test_each_dtype_has_a_peak_and_an_autocast_one_counts_as_what_it_casts_to() -> None:
    found = peaks("cpu", ["float32", "amp_bfloat16", "bfloat16"])
    assert set(found) == {"peak_flops_per_s_float32", "peak_flops_per_s_bfloat16", "peak_copy_bytes_per_s"}
    assert all(value > 1e6 for value in found.values())


def test_a_dtype_that_the_device_does_not_multiply_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("not implemented for this dtype")

    monkeypatch.setattr(torch, "mm", refused)
    monkeypatch.setattr(torch, "conv2d", refused)
    monkeypatch.setattr(module, "_layer", refused)
    assert set(peaks("cpu", ["float32"])) == {"peak_copy_bytes_per_s"}


def test_the_better_of_products_and_convolutions_is_the_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    reached = {module._matrices: 2e9, module._convolution: 3e9, module._layer: None}
    monkeypatch.setattr(module, "_best", lambda kind, *_: reached[kind])
    assert peaks("cpu", ["float32"])["peak_flops_per_s_float32"] == 3e9


def test_a_layer_by_onednn_counts_where_torch_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        assert module._best(module._layer, "cpu", torch.float32) > 1e6
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert module._best(module._layer, "cpu", torch.float32) is None


@pytest.mark.parametrize("kind", [module._matrices, module._convolution])
def test_the_flops_of_a_product_are_those_that_torch_counts(kind) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    flops, call = kind("cpu", torch.float32, 0)
    with FlopCounterMode(display=False) as counter:
        call()
    assert counter.get_total_flops() == flops


def test_the_fastest_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = itertools.chain([0.5, 0.004, 0.003, 0.009], itertools.repeat(0.007))
    monkeypatch.setattr(module.clock.Clock, "span", lambda *_: next(spans))
    monkeypatch.setattr(module, "SECONDS", 1e-9)
    assert module._fastest("cpu", lambda: None) == 0.004  # one slow call, and one that counts
    assert module._fastest("cpu", lambda: None) == 0.009


def test_a_copy_for_which_there_is_no_memory_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(module, "_fastest", full)
    assert module._copy("cpu") is None


def test_what_is_multiplied_is_never_zero() -> None:
    assert bool((module._normal((64, 64), "cpu", torch.bfloat16) != 0).float().mean() > 0.99)


@pytest.mark.gpu
def test_a_gpu_has_a_roof() -> None:
    found = peaks("cuda", ["float32", "bfloat16"])
    assert found["peak_flops_per_s_bfloat16"] > found["peak_copy_bytes_per_s"]
