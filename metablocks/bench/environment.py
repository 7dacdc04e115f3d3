"""Where a case ran: versions, device, threads, load. What cannot be learnt is left out."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def environment(device: str) -> dict[str, Any]:
    """Plain values by name, as they stand now. Wakes the device up, so it is for workers."""
    import torch

    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu_model": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
    with contextlib.suppress(PackageNotFoundError):
        found["metablocks"] = version("metablocks")
    with contextlib.suppress(OSError):
        found["load_1min"] = round(os.getloadavg()[0], 2)
    if device.startswith("cuda"):
        found |= _cuda(device)
    else:
        found["device_name"] = found["cpu_model"]
    return {key: value for key, value in found.items() if value is not None}


def _cuda(device: str) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(device)
    return {
        "device_name": properties.name,
        "device_memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
    }


def cpu_model() -> str | None:
    """What the processor calls itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or None
