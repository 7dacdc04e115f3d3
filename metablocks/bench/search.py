"""The largest batch that fits, and the limit that makes a trial of it end in an error instead of a dead machine."""

from __future__ import annotations

from collections.abc import Callable

from metablocks.bench.memory import resident
from metablocks.core.errors import Fault, MissingError


def largest_batch(fits: Callable[[int], bool], start: int, most: int = 1 << 20) -> int | None:
    """The largest batch in 1 .. `most` that fits, found from `start`; None where 1 does not fit.

    It takes for granted that whatever is smaller than a batch that fits does fit. A trial is dear, so no batch is tried
    twice: doubled until one does not fit, then bisected, which is about 2 log2(largest) trials.
    """
    fitting, failing = 0, most + 1
    batch = min(max(1, start), most)
    while failing - fitting > 1:
        if fits(batch):
            fitting = batch
        else:
            failing = batch
        batch = min(2 * fitting, most) if failing > most else (fitting + failing) // 2
    return fitting or None


def limit_memory(limit_bytes: int, device: str) -> None:
    """Lets this process, which has imported torch, hold so much more; beyond it an allocation fails with an error.

    On a GPU it is all that torch may hold there. On a CPU it is RLIMIT_DATA, which counts private writable memory: with
    RLIMIT_AS the address space that the C library reserves for each thread would count as well. Raises `MissingError`
    where the system has no such limit.
    """
    import torch

    if device.startswith("cuda"):
        index = torch.device(device).index
        total = torch.cuda.get_device_properties(index or 0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total), index)
        return
    # the stacks of torch's threads are no one's activations: they are there before the count starts
    torch.ones(torch.get_num_threads() << 16).neg()
    held = resident("VmData")
    if held is None:
        raise MissingError(Fault("the memory of a process cannot be limited here", help="run on Linux, or on CUDA"))
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = held + limit_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
