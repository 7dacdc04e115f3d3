"""A kernel of the pooling branch runs where it is right and pays: fake ones stand in for Triton's."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

import pytest
import torch

from metablocks.kernels import pool_trial, pool_twin, trial


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))
    monkeypatch.setattr(trial, "_seconds", lambda call, _: (call(), 1.0)[1])  # nothing is timed
    trial.forget()
    trial.warn.cache_clear()
    yield
    trial.forget()


def given(which, images=3):
    x, weight, statistics = torch.randn(images, 6, 4), torch.randn(4), torch.randn(2, 2, images)
    scales = (torch.randn(4), None, torch.randn(images))
    if which == "residual":
        return x, weight, scales, 1e-5, (2, 3, 3)
    return x, x, weight, scales, (statistics[0], statistics[1]), (2, 3, 3)


def kernels(monkeypatch, **ways):
    """Kernels as one says, else those of the twin."""
    fake = SimpleNamespace(residual=pool_twin.residual, backward=pool_twin.backward)
    fake.__dict__.update(ways)
    monkeypatch.setitem(sys.modules, "metablocks.kernels.pool_launch", fake)
    monkeypatch.setattr("metablocks.kernels.pool_launch", fake, raising=False)


def fails(*_):
    raise RuntimeError("PassManager::run failed")


both = pytest.mark.parametrize("which", ["residual", "backward"])


@both
def test_a_kernel_that_is_right_and_as_fast_runs(which, monkeypatch, caplog) -> None:
    kernels(monkeypatch)
    assert pool_trial.kernel_wins(which, given(which))
    assert not caplog.messages


@both
def test_a_kernel_that_raises_is_told_of_once(which, monkeypatch, caplog) -> None:
    kernels(monkeypatch, **{which: fails})
    with caplog.at_level(logging.WARNING):
        assert not any(pool_trial.kernel_wins(which, given(which)) for _ in range(3))
    assert caplog.messages == [
        f"fused pooling, {which}, (3, 6, 4), torch.float32: RuntimeError: PassManager::run failed; "
        "plain PyTorch runs in its place"
    ]


@both
@pytest.mark.parametrize("index", [0, 1])
def test_a_kernel_with_one_wrong_result_does_not_run(which, index, monkeypatch, caplog) -> None:
    def wrong(*given):
        made = list(getattr(pool_twin, which)(*given))
        made[index] = made[index] * float("nan")
        return tuple(made)

    kernels(monkeypatch, **{which: wrong})
    assert not pool_trial.kernel_wins(which, given(which))
    assert f"result {index} is off by nan" in caplog.text


def test_a_kernel_that_is_slower_does_not_run(monkeypatch, caplog) -> None:
    kernels(monkeypatch)
    monkeypatch.setattr(trial, "_seconds", lambda call, _: 2e-3 if call.args[0] is pool_trial._kernel else 1e-3)
    assert not pool_trial.kernel_wins("residual", given("residual"))
    assert "slower: kernel 2 ms, twin 1 ms" in caplog.text


@both
def test_batches_that_are_alike_share_a_verdict(which) -> None:
    keys = [pool_trial._key(which, given(which, images)) for images in (129, 256, 257)]
    assert keys[0] == keys[1] != keys[2]


def test_nothing_is_tried_in_the_interpreter_or_where_trials_are_off(monkeypatch) -> None:
    kernels(monkeypatch)
    monkeypatch.setattr(pool_trial, "kernel_wins", fails)
    assert len(pool_trial.run("residual", given("residual"))) == 3
