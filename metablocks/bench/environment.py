"""Where a case ran: versions, device, settings, limits, load. What cannot be learnt is left out.

Nothing here names the machine or its user: no host, no paths, no serial numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from metablocks.bench import contention
from metablocks.core.text import printable

CONDITIONS = (
    "python",  # its minor version alone
    "torch",
    "triton",
    "timm",
    "torchvision",
    "metablocks",
    "machine",
    "device_name",
    "device_memory_bytes",
    "cpu_model",
    "cpu_capability",
    "cpu_governor",
    "cpu_boost",
    "cpus",
    "cpu_quota",
    "threads",
    "interop_threads",
    "nice",
    "transparent_hugepages",
    "driver",
    "cuda",
    "cudnn",
    "mig",
    "gpu_applications_clock_mhz",
    "gpu_power_limit_w",
    "float32_matmul_precision",
    "matmul_allow_tf32",
    "cudnn_allow_tf32",
    "cudnn_benchmark",
    "deterministic",
    "sdpa_backends",
    "variables",
)
"""What `fingerprint` covers. Not the time, the load, the release of the system or what the card is at just now."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
FAMILIES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "VECLIB_", "ONEDNN_", "DNNL_", "ATEN_", "PYTORCH_", "TORCH_",
            "TORCHDYNAMO_", "TORCHINDUCTOR_", "TRITON_", "CUDA_", "CUDNN_", "CUBLAS", "NVIDIA_TF32_", "MALLOC_",
            "GLIBC_TUNABLES", "PYTHONMALLOC")  # fmt: skip
# Where things lie and what is logged changes no speed, and some of it is nobody's business.
LEFT_OUT = ("DIR", "PATH", "HOME", "ROOT", "LOG", "LOGS", "FILE", "TRACE", "URL", "ADDR", "HOST", "TOKEN", "KEY",
            "SECRET", "PASSWORD", "VISIBLE", "VERSION", "UUID")  # fmt: skip
MOST_VARIABLES = 40
HINDERING = {
    "CUDA_LAUNCH_BLOCKING": "makes the CPU wait for every kernel",
    "PYTORCH_NO_CUDA_MEMORY_CACHING": "gives memory back to the driver after every operation",
    "TORCHDYNAMO_DISABLE": "turns the compiler off",
}


def environment(device: str) -> dict[str, Any]:
    """Plain values by name, as they stand now. Wakes the device up, so it is for workers."""
    import torch

    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "sdpa_backends": _sdpa_backends(),
        "variables": variables(os.environ) or None,
    }
    found |= versions(("metablocks", "triton")) | processors()
    if device.startswith("cuda"):
        found |= _cuda(device)
    else:
        found["device_name"] = found.get("cpu_model")
    return {key: value for key, value in found.items() if value is not None}


def processors() -> dict[str, Any]:
    """The processors, and what this process may have of them."""
    import torch

    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    first = f"/sys/devices/system/cpu/cpu{mine[0] if mine else 0}/cpufreq/scaling_governor"
    found: dict[str, Any] = {
        "cpu_model": cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpus": len(mine) if mine else os.cpu_count(),
        "cpu_quota": contention.quota(),
        "cpu_governor": _line(first),
        "cpu_boost": _boost(),
        "transparent_hugepages": _chosen(_line("/sys/kernel/mm/transparent_hugepage/enabled")),
    }
    with contextlib.suppress(OSError, AttributeError):
        found["nice"] = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError, AttributeError):
        found["load_1min"] = round(os.getloadavg()[0], 2)
    return found


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those of these packages that are installed. Imports none."""
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that may change how fast things run, as they are set: at most 40, cut and safe to print."""
    kept = [name for name in sorted(environ) if name.startswith(FAMILIES) and not set(name.split("_")) & {*LEFT_OUT}]
    found = {printable(name): printable(environ[name]) for name in kept[:MOST_VARIABLES]}
    if preloaded := environ.get("LD_PRELOAD"):  # often another allocator; its name tells, its folder does not matter
        names = preloaded.replace(":", " ").split()
        found["LD_PRELOAD"] = printable(" ".join(name.rpartition("/")[2] for name in names))
    return found


def fingerprint(environment: Mapping[str, Any]) -> str:
    """What two runs under the same conditions share: 16 digits over those of `CONDITIONS` that are known."""
    same = {key: environment[key] for key in CONDITIONS if key in environment}
    if "python" in same:
        same["python"] = ".".join(str(same["python"]).split(".")[:2])
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:16]


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each condition that a subject changed while it was built: some set flags where they import."""
    keys = [key for key in CONDITIONS if before.get(key) != after.get(key)]
    return tuple(
        f"the subject set {key} to {printable(str(after.get(key)))}, which was {printable(str(before.get(key)))}: "
        "compare it with subjects that ran under the same"
        for key in keys
    )


def warnings(environment: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences about settings that put times in doubt before anything is timed, each with the next step."""
    said = []
    known = environment.get("variables", {})
    for name in THREADS:
        if name in known and not _counts(known[name]):
            said.append(f"{name} is `{known[name]}`, which is no number of threads: unset it, or set it to 1 or more")
    said += [f"{name} {what}: unset it" for name, what in HINDERING.items() if known.get(name) not in (None, "", "0")]
    threads, cpus, quota = (environment.get(key) for key in ("threads", "cpus", "cpu_quota"))
    if threads and cpus and threads > cpus:
        said.append(f"{threads} threads share {cpus} processors: set OMP_NUM_THREADS={cpus}")
    elif threads and quota and threads > quota:
        said.append(f"{threads} threads run under a quota of {quota:g} processors, which stops them now and then: "
                    f"raise the quota, or set OMP_NUM_THREADS={max(1, int(quota))}")  # fmt: skip
    if environment.get("nice", 0) > 0:
        said.append(f"this runs at nice {environment['nice']}, behind every other program: start it without nice")
    return tuple(said)


def _counts(value: str) -> bool:
    """Whether it is a number of threads, or one for each level of nesting."""
    return all(part.strip().isascii() and part.strip().isdigit() and int(part) > 0 for part in value.split(","))


def _cuda(device: str) -> dict[str, Any]:
    import torch

    from metablocks.bench.sensors import Sensors

    properties = torch.cuda.get_device_properties(device)
    found: dict[str, Any] = {
        "device_name": properties.name,
        "device_memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_allow_tf32": _flag(lambda: torch.backends.cudnn.allow_tf32),
        "matmul_allow_tf32": _flag(lambda: torch.backends.cuda.matmul.allow_tf32),
        "driver": _line("/sys/module/nvidia/version"),
    }
    return found | Sensors(device).card()


def _flag(read: Callable[[], bool]) -> bool | None:
    """torch refuses to tell an old flag where a newer one for the same thing was set in another way."""
    with contextlib.suppress(RuntimeError):
        return read()
    return None


def _sdpa_backends() -> list[str]:
    """The kernels that attention may choose from, as they are allowed; which one it takes is decided by call."""
    from torch.backends import cuda

    allowed = {
        "cudnn": cuda.cudnn_sdp_enabled(),
        "flash": cuda.flash_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
        "mem_efficient": cuda.mem_efficient_sdp_enabled(),
    }
    return [name for name, is_allowed in allowed.items() if is_allowed]


def cpu_model() -> str | None:
    """What the processor calls itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or None


def _boost() -> bool | None:
    """Whether the processors may run above their nominal clock."""
    held = _line("/sys/devices/system/cpu/intel_pstate/no_turbo")
    free = _line("/sys/devices/system/cpu/cpufreq/boost")
    return held == "0" if held else free == "1" if free else None


def _chosen(line: str | None) -> str | None:
    """The word in brackets of `always [madvise] never`."""
    return line.partition("[")[2].partition("]")[0] or None if line else None


def _line(file: str) -> str | None:
    with contextlib.suppress(OSError):
        return printable(Path(file).read_text(encoding="utf-8", errors="replace").strip()) or None
    return None
