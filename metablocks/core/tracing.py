"""Who is tracing: asked of torch in a way that is right in every version that we support."""

from __future__ import annotations

import torch


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def exporting() -> bool:
    """Whether this runs for `torch.export`. In a graph that `torch.compile` traces, torch 2.11 says that it does to
    everything that it traces; this it calls instead, and takes the answer for a constant."""
    return torch.compiler.is_exporting()
