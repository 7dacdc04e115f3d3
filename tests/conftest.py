"""What all tests share: the `gpu` marker, and hypothesis without a stopwatch."""

from __future__ import annotations

import os
import sys
from functools import cache

import pytest
from hypothesis import settings

# A first call may import torch or compile; time is not what a property is about.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")

# The workers of pytest-xdist share the cores; read by torch when it is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not _cuda():
        pytest.skip("no CUDA device")


@cache
def _cuda() -> bool:
    # here, so that a run without gpu tests does not pay for the import
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _loose_mixers_are_forgotten():
    """`--mixers` is for one process; here many tests share one."""
    yield
    finder = sys.modules.get("metablocks.mixers._finder")
    if finder is not None:
        finder._loose.clear()
        finder._load.cache_clear()
