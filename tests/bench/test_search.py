from __future__ import annotations

import subprocess
import sys
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metablocks.bench import search
from metablocks.bench.memory import resident
from metablocks.bench.search import largest_batch
from metablocks.core.errors import MissingError

UNBOUNDED = """
import sys
import torch
from metablocks.bench.search import limit_memory
from metablocks.build import out_of_memory
torch.ones(1 << 20).sum()
limit_memory(200 << 20, "cpu")
torch.ones(100 << 18)
print("half of it fits")
held = []
try:
    while True:
        held.append({})
except Exception as error:
    held.clear()
    print("out of memory" if out_of_memory(error) else repr(error))
print("and goes on")
"""
KINDS = {
    "tensors": "torch.ones(1 << 20)",
    "objects": "bytearray(1 << 20)",
    "a_step": "torch.nn.Linear(512, 4096)(torch.ones(512, 512))",
}


@given(largest=st.integers(0, 3000), start=st.integers(1, 4000), most=st.integers(1, 4000))
def test_the_largest_batch_that_fits_is_found(largest, start, most):
    tried = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= largest

    assert largest_batch(fits, start, most) == (min(largest, most) or None)
    assert len(tried) == len(set(tried)), "a trial is dear"
    assert all(1 <= batch <= most for batch in tried)
    assert len(tried) <= 2 * log2(max(largest, start) + 1) + 2


def test_a_network_without_room_for_one_image_has_no_batch():
    assert largest_batch(lambda batch: False, 8) is None  # noqa: ARG005


def test_a_trial_that_raises_ends_the_search():
    def fits(batch: int) -> bool:
        raise KeyError(batch)

    with pytest.raises(KeyError, match="8"):
        largest_batch(fits, 8)


@pytest.mark.skipif(resident("VmData") is None, reason="this system does not tell what a process holds")
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_process_that_allocates_without_bound_ends_out_of_memory(kind):
    script = UNBOUNDED.format(KINDS[kind])
    ended = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["half of it fits", "out of memory", "and goes on"]


def test_where_memory_cannot_be_limited_that_is_said(monkeypatch):
    monkeypatch.setattr(search, "resident", lambda key: None)  # noqa: ARG005
    with pytest.raises(MissingError, match="cannot be limited here"):
        search.limit_memory(1 << 30, "cpu")
