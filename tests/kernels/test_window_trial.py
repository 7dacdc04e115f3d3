"""A kernel runs where it is right and pays: fake ones stand in for Triton's, which a CPU does not have."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

import pytest
import torch
from kernels.window_cases import CASES, NAMES

from metablocks.kernels import trial, window_trial

CASE = CASES["7, cosine"]


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))
    monkeypatch.setattr(trial, "_seconds", lambda call, _: (call(), 1.0)[1])  # nothing is timed
    trial.forget()
    trial.warn.cache_clear()
    yield
    trial.forget()


@pytest.fixture
def given():
    inputs, grad = CASE.inputs(torch.float32)
    return (*(inputs[name] for name in NAMES), CASE.windows, 1.0), grad


def kernels(monkeypatch, attention=None, gradients=None):
    """Kernels as one says, else those of the twin."""
    fake = SimpleNamespace(
        attention=attention or (lambda *given: window_trial.twin_attention(given)),
        gradients=gradients or (lambda grad, *given: window_trial.twin_gradients(grad, given)),
    )
    monkeypatch.setitem(sys.modules, "metablocks.kernels.window_launch", fake)
    monkeypatch.setattr("metablocks.kernels.window_launch", fake, raising=False)


def fails(*_):
    raise RuntimeError("PassManager::run failed")


def test_a_kernel_that_is_right_and_as_fast_runs(given, monkeypatch, caplog) -> None:
    kernels(monkeypatch)
    assert window_trial.kernel_wins("forward", given[0], None)
    assert window_trial.kernel_wins("backward", *given)
    assert not caplog.messages


def test_a_kernel_that_raises_is_told_of_once(given, monkeypatch, caplog) -> None:
    kernels(monkeypatch, attention=fails)
    with caplog.at_level(logging.WARNING):
        assert not any(window_trial.kernel_wins("forward", given[0], None) for _ in range(3))
    assert caplog.messages == [
        "fused window attention, forward, 7 x 7, head_dim 8, float32: RuntimeError: PassManager::run failed; "
        "plain PyTorch runs in its place"
    ]


def test_a_kernel_whose_output_is_wrong_does_not_run(given, monkeypatch, caplog) -> None:
    kernels(monkeypatch, attention=lambda *given: window_trial.twin_attention(given) * 1.01)
    assert not window_trial.kernel_wins("forward", given[0], None)
    assert "the output is off by 1.0e-02 of its largest value" in caplog.text


@pytest.mark.parametrize(("index", "name"), [(0, "of qkv"), (1, "of the bias"), (3, "of the temperature")])
def test_a_kernel_with_one_wrong_gradient_does_not_run(index, name, given, monkeypatch, caplog) -> None:
    def wrong(grad, *given):
        made = list(window_trial.twin_gradients(grad, given))
        made[index] = made[index] * float("nan")
        return tuple(made)

    kernels(monkeypatch, gradients=wrong)
    assert not window_trial.kernel_wins("backward", *given)
    assert f"the gradient {name} is off by nan" in caplog.text
    assert window_trial.kernel_wins("forward", given[0], None)


def test_a_kernel_that_is_slower_does_not_run(given, monkeypatch, caplog) -> None:
    kernels(monkeypatch)
    monkeypatch.setattr(trial, "_seconds", lambda call, _: 2e-3 if call.func is window_trial._kernel else 1e-3)
    assert not window_trial.kernel_wins("forward", given[0], None)
    assert "slower: kernel 2 ms, twin 1 ms" in caplog.text


def test_where_a_kernel_does_not_run_the_twin_does(given, monkeypatch) -> None:
    kernels(monkeypatch, fails, fails)
    monkeypatch.setattr(window_trial, "_proven", window_trial.kernel_wins)
    torch.testing.assert_close(window_trial.attention(given[0]), window_trial.twin_attention(given[0]))
    torch.testing.assert_close(
        window_trial.gradients(given[1], given[0]), window_trial.twin_gradients(given[1], given[0])
    )


def test_batches_that_are_alike_share_a_verdict(given) -> None:
    def key(images: int) -> str:
        return window_trial._key("forward", (given[0][0][:1].expand(images, -1, -1), *given[0][1:]))

    assert key(129) == key(256) != key(257)


def test_the_twin_has_some_images_at_a_time(given, monkeypatch) -> None:
    whole = window_trial.twin_attention(given[0]), *window_trial.twin_gradients(given[1], given[0])
    monkeypatch.setattr(window_trial, "IMAGES", 1)
    parts = window_trial.twin_attention(given[0]), *window_trial.twin_gradients(given[1], given[0])
    torch.testing.assert_close(parts, whole)


def test_nothing_is_tried_in_the_interpreter_or_where_trials_are_off(given, monkeypatch) -> None:
    monkeypatch.setattr(window_trial, "kernel_wins", fails)
    assert window_trial._proven("forward", given[0], None)
    on_gpu = (SimpleNamespace(is_cuda=True), *given[0][1:])
    monkeypatch.setenv("METABLOCKS_TRIAL", "off")
    assert window_trial._proven("forward", on_gpu, None)
