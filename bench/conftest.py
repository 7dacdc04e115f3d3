"""Benchmarks of the package itself are run by hand: `pytest bench/ --benchmark-autosave --benchmark-compare`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from metablocks.bench.clock import Clock


@pytest.fixture(scope="session")
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def synchronised(benchmark: Any, device: str) -> Callable[..., Any]:
    """`benchmark` whose every call ends when the device has done what it was given."""
    clock = Clock(device)

    def timed(call: Callable[..., Any], *arguments: Any) -> Any:
        def whole() -> Any:
            result = call(*arguments)
            clock.synchronise()
            return result

        return benchmark(whole)

    benchmark.extra_info.update(device=device, torch=torch.__version__, threads=torch.get_num_threads())
    return timed
