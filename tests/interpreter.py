"""Triton's kernels on the CPU, slowly: its interpreter, which has to be asked for before Triton is imported.

`TRITON_INTERPRET=1 pytest tests/kernels` runs all that are interpreted; in other runs `test_interpreted.py` does so in
a process of its own. In bfloat16 it gives wrong numbers without an error (Triton 3.6), so fp32 and fp16 are tested.
"""

from __future__ import annotations

import os
from collections import Counter
from importlib.util import find_spec

import pytest
import torch

INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton") is not None
interpreted = pytest.mark.skipif(not INTERPRETS, reason="Triton is not asked to interpret: see test_interpreted.py")


def moved_elements(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Elements that kernels read or write from now on, by their size in bytes; those that a mask leaves out are not."""
    from triton.runtime.interpreter import InterpreterBuilder

    found: Counter[int] = Counter()

    def counted(name: str, at: int) -> None:
        usual = getattr(InterpreterBuilder, name)

        def call(self, pointers, *rest):
            found[pointers.get_element_ty().primitive_bitwidth // 8] += int(rest[at].data.sum())
            return usual(self, pointers, *rest)

        monkeypatch.setattr(InterpreterBuilder, name, call)

    counted("create_masked_load", 0)
    counted("create_masked_store", 1)
    return found


def touched_elements(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """Addresses that kernels load from and store to from now on, with how often: filled as they run."""
    from triton.runtime.interpreter import InterpreterBuilder

    touched: Counter[tuple[str, int]] = Counter()
    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store

    def loads(self, ptrs, mask, *rest):
        touched.update(("read", int(at)) for at in ptrs.data[mask.data])
        return load(self, ptrs, mask, *rest)

    def stores(self, ptrs, value, mask, *rest):
        touched.update(("written", int(at)) for at in ptrs.data[mask.data])
        return store(self, ptrs, value, mask, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_masked_load", loads)
    monkeypatch.setattr(InterpreterBuilder, "create_masked_store", stores)
    return touched


def reached(touched: Counter[tuple[str, int]], tensor: torch.Tensor) -> int:
    """How many elements of a tensor are among these, once each where they are read and where they are written."""
    start = tensor.data_ptr()
    return sum(start <= at < start + tensor.nbytes for _, at in touched)


def _numpy_may_be_new() -> None:
    """Scalars are arrays of one element to Triton 3.6, and NumPy 2.4 makes no number of these by itself."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor
    if patch.__module__ != interpreter.__name__:
        return

    def patched(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched


if INTERPRETS:
    _numpy_may_be_new()
