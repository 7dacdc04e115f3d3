"""Peak memory of one call: what the network holds, and by how much the call grows it. Inputs are not counted.

On a GPU the allocator tells. On a CPU the resident set of the process tells, where Linux keeps its peak; before the
call, what the allocator only hoards is given back, so that neither the compiler nor an earlier call is counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

from metablocks.bench.clock import Call

CUDA = "weights + growth of max_memory_allocated in one call"
CPU = "weights + growth of VmHWM in one call, after malloc_trim"


def peak(call: Call, device: str, held: int) -> tuple[int | None, str | None]:
    """Bytes at the peak of one call of a network that holds `held` bytes, and the method; None where none works."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return held + torch.cuda.max_memory_allocated(device) - before, CUDA
    before_call = _lowered()
    if before_call is None:
        return None, None
    call()
    highest = resident("VmHWM")
    return (None, None) if highest is None else (held + highest - before_call, CPU)


def resident(key: str = "VmRSS") -> int | None:
    """VmRSS, the resident set of this process, or VmHWM, its peak, in bytes; None where the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    return None


def _lowered() -> int | None:
    """Gives back what is free and sets the peak to what is resident now; that, or None where it cannot be done."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError, TypeError):
        return None
    return resident()
