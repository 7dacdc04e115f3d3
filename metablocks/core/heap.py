"""What the C library does with freed memory on a CPU: it stays with the process, for the next call.

glibc gives large blocks back to the system as soon as they are free. A network makes the same maps in every call, and
so pays in every call for new pages, each of which the kernel fills with zeros: up to a fifth of the time of a small
network. The price of keeping them is that a process stays as large as its largest call.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MOST = 1 << 30
"""Bytes: larger blocks are given back, and so is what is free beyond as many."""
OLD_MOST = 32 << 20
"""As large as an older glibc lets blocks be that are kept."""
SETTLED = {M_MMAP_THRESHOLD: OLD_MOST, M_TRIM_THRESHOLD: 64 << 20}
"""Where glibc's own thresholds come to rest in a process that frees large blocks."""
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Variables by which a user decides, for another library too."""


@cache
def keep_freed() -> dict[int, int]:
    """Has freed memory stay with this process. The options of glibc's malloc that were set, by their values: none
    without glibc, nor where the user has decided."""
    if any(name in os.environ for name in CHOSEN):
        return {}
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return {}
    # in this order: once one of them is set, glibc leaves the other where it stands
    for block in (MOST, OLD_MOST):
        if set_option(M_MMAP_THRESHOLD, block) and set_option(M_TRIM_THRESHOLD, MOST):
            return {M_MMAP_THRESHOLD: block, M_TRIM_THRESHOLD: MOST}
    return {}


def keeps() -> bool:
    """Whether freed memory stays with this process, because a network was built in it."""
    return keep_freed.cache_info().currsize > 0 and bool(keep_freed())


def thresholds() -> dict[int, int]:
    """Options of glibc's malloc and their values here, for who changes them for a while."""
    return keep_freed() if keeps() else SETTLED
