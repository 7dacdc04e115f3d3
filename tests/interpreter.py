"""Triton's kernels on the CPU, slowly: its interpreter, which has to be asked for before Triton is imported.

It gives wrong numbers in bfloat16 without an error (Triton 3.6), so fp32 and fp16 are what it is for.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import torch


def why_not() -> str:
    """Why no kernel can be interpreted here; nothing where it can. Has Triton interpret unless somebody uses it."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    if os.environ.get("TRITON_INTERPRET") != "1":
        if torch.cuda.is_available():
            return "there is a GPU: the tests marked gpu run the kernels on it"
        if "triton" in sys.modules:
            return "Triton was imported to compile: run these tests by themselves, or set TRITON_INTERPRET=1"
        os.environ["TRITON_INTERPRET"] = "1"
    _numpy_may_be_new()
    return ""


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
