"""The pooling branch in Triton's interpreter against the plain formula in float64, and what its kernels touch."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import interpreted, touched_elements
from kernels.pool_cases import CASES, Case, errors

from metablocks.kernels.pool_residual import elements

pytestmark = interpreted


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_plain_formula_in_single_precision(name: str) -> None:
    found = errors(CASES[name], torch.float32)
    assert {what: error for what, error in found.items() if error > 1e-6} == {}


@pytest.mark.parametrize("name", CASES)
def test_it_is_close_to_it_in_half_precision(name: str) -> None:
    found = errors(CASES[name], torch.float16)
    assert {what: error for what, error in found.items() if error > 1e-3} == {}


@settings(max_examples=8)
@given(
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    width=st.integers(1, 70),
    window=st.sampled_from([1, 3, 5, 7]),
    there=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_random_maps_are_those_of_the_formula(grid, width, window, there) -> None:
    found = errors(Case(grid, width, window, 1, 0.0, *there), torch.float32)
    assert {what: error for what, error in found.items() if error > 1e-6} == {}


@pytest.mark.parametrize("case", [Case((5, 7), 70, kept=True), Case((9, 8), 64, 5, skip=True)], ids=["3", "5"])
def test_the_kernels_touch_no_more_than_is_declared(case: Case, monkeypatch) -> None:
    """Of maps; each element is written once, and what is read again is the same."""
    touched = touched_elements(monkeypatch)
    given = case.inputs(torch.float32)
    out = case.fused(given)[0]
    forward = _of_maps(touched, case)
    touched.clear()
    above = torch.randn(out.shape)
    out.backward(above)
    backward = _of_maps(touched, case)
    assert (forward, backward) == elements(case.images, case.grid[0] * case.grid[1], case.width)


def _of_maps(touched: Counter, case: Case) -> int:
    """How many places are read or written, of those that are in pieces of memory as long as a map."""
    size = case.images * case.grid[0] * case.grid[1] * case.width
    assert {times for (what, _), times in touched.items() if what == "written"} == {1}
    found = 0
    for what in ("read", "written"):
        found += sum(length for length in _runs(sorted(at for kind, at in touched if kind == what)) if length >= size)
    return found


def _runs(addresses: list[int]) -> list[int]:
    """Lengths of what is without a gap."""
    lengths = []
    for before, at in zip([None, *addresses], addresses, strict=False):
        if before is not None and at - before == 4:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths
