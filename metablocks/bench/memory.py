"""Peak memory of one call, and what it is made of: what the network and its optimiser hold, and what the call adds.

The images themselves are not counted. On a GPU the allocator tells. On a CPU the resident set of the process tells,
where Linux keeps its peak, and only as well as the C library gives memory back: see `_Frugal`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metablocks.core import heap
from metablocks.core.heap import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD

if TYPE_CHECKING:
    from torch import Tensor, nn

    from metablocks.bench.work import Work

CUDA = "weights and optimiser + growth of max_memory_allocated in one call"
GLIBC = "weights and optimiser + growth of VmHWM in one call, free heap filled, mmap from 64 KiB on"
LINUX = "weights and optimiser + growth of VmHWM in one call, allocator as it is"

PAGE_MAPPED = 64 << 10  # blocks from this size on are mapped, so that freeing one lowers the resident set at once
M_TOP_PAD, M_MMAP_MAX = -2, -4
MALLINFO = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
MAPPINGS = 65536  # glibc's default of M_MMAP_MAX


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of one call, and the parts of it. None where it could not be measured."""

    peak_bytes: int | None
    method: str | None
    parameters_bytes: int
    """Of parameters and buffers."""
    gradients_bytes: int
    """After the call, before they are freed; 0 where nothing is trained."""
    optimiser_bytes: int
    activations_bytes: int | None
    """The peak less all the others: activations, and what an operation needs or keeps for itself."""


def measured(work: Work, device: str) -> Memory:
    """The memory of one more call of warmed-up work. Slow on a CPU, where the allocator is told to hoard nothing."""
    work.call()  # an optimiser and a library make on their first call what they then keep
    held = nbytes(tensors(work.model)), nbytes(optimised(work.optimiser))
    growth, method = _growth(work, device)
    gradients = nbytes(gradient for one in work.model.parameters() if (gradient := one.grad) is not None)
    return memory(growth, method, *held, gradients)


def memory(growth: int | None, method: str, parameters: int, optimiser: int, gradients: int) -> Memory:
    """The peak of a call that grows what is held, parameters and optimiser, by so many bytes, gradients among them."""
    if growth is None:
        return Memory(None, None, parameters, gradients, optimiser, None)
    # the resident set counts whole pages that were touched: of a tiny network less than its gradients may be seen
    activations = max(0, growth - gradients)
    return Memory(
        parameters + optimiser + gradients + activations, method, parameters, gradients, optimiser, activations
    )


def tensors(model: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers."""
    yield from model.parameters()
    yield from model.buffers()


def optimised(optimiser: Any) -> Iterator[Tensor]:
    """The tensors of an optimiser's state; none without an optimiser."""
    for state in optimiser.state.values() if optimiser else ():
        yield from (value for value in state.values() if hasattr(value, "untyped_storage"))


def nbytes(found: Iterable[Tensor]) -> int:
    """Bytes of the storages of tensors, each counted once."""
    storages = (one.untyped_storage() for one in found)
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


def resident(key: str = "VmRSS") -> int | None:
    """VmRSS, the resident set of this process, or VmHWM, its peak, in bytes; None where the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    return None


def _growth(work: Work, device: str) -> tuple[int | None, str]:
    if device.startswith("cuda"):
        return _on_cuda(work, device), CUDA
    return _on_cpu(work) if device == "cpu" else (None, LINUX)


def _on_cuda(work: Work, device: str) -> int:
    import torch

    _free_gradients(work)
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work.call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _on_cpu(work: Work) -> tuple[int | None, str]:
    from metablocks.kernels import cpu_weights

    _free_gradients(work)  # first: where they were in the heap there is a hole then
    copies, met = cpu_weights.copies, cpu_weights.copies.meetings
    with _Frugal() as frugal:
        before = _lowered()
        if before is None:
            return None, LINUX
        work.call()
        highest = resident("VmHWM")
        growth = None if highest is None else highest - before + copies.taken(since=met)
        return growth, GLIBC if frugal.works else LINUX


def _free_gradients(work: Work) -> None:
    if work.optimiser is not None:
        work.optimiser.zero_grad(set_to_none=True)


def _lowered() -> int | None:
    """Gives back what is free and sets the peak to what is resident now; that, or None where it cannot be done."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return resident()


class _Heap(ctypes.Structure):
    """What `mallinfo2` of glibc returns."""

    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO.split()]


class _Frugal:
    """While this context lasts, glibc gives memory back as soon as it is freed. `works` where there is glibc.

    Calls before it have left a heap with holes. A hole that is used once in the call stays resident to its end, though
    it is free again: up to half of a peak may be such slack. So the holes are filled with blocks that nobody touches,
    and what the call allocates is mapped, block by block. Slow, so this is no place to take times.
    """

    works = False

    def __enter__(self) -> _Frugal:
        self.fillers: list[int] = []
        try:
            self.libc = ctypes.CDLL(None)
            self.libc.mallinfo2.restype = _Heap  # glibc 2.33
            self.libc.malloc.restype, self.libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
            self.libc.free.restype, self.libc.free.argtypes = None, [ctypes.c_void_p]
            self.libc.sbrk.restype, self.libc.sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
        except (AttributeError, OSError, TypeError):
            return self
        self.works = True
        self._set({M_TRIM_THRESHOLD: PAGE_MAPPED, M_TOP_PAD: 0, M_MMAP_THRESHOLD: PAGE_MAPPED})
        gc.collect()
        self.libc.malloc_trim(0)
        self._fill()
        return self

    def __exit__(self, *exception: object) -> None:
        for block in self.fillers:
            self.libc.free(block)
        if self.works:
            self._set({M_TOP_PAD: 128 << 10, **heap.thresholds()})

    def _fill(self) -> None:
        """Takes all the holes of the heap, the largest first. A block for which the heap has to grow fits in none."""
        heap = self.libc
        self._set({M_MMAP_MAX: 0})
        left, size = int(heap.mallinfo2().fordblks), 1 << 30
        while size >= PAGE_MAPPED // 2:
            end = heap.sbrk(0)
            block = heap.malloc(size) if size <= left else None
            if block is not None and heap.sbrk(0) == end:
                self.fillers.append(block)
                left -= size
                continue
            if block is not None:
                heap.free(block)
            size //= 2
        self._set({M_MMAP_MAX: MAPPINGS})
        heap.malloc_trim(0)

    def _set(self, options: dict[int, int]) -> None:
        for option, value in options.items():
            self.libc.mallopt(option, value)
