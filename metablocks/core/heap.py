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
KEPT = {M_TRIM_THRESHOLD: MOST, M_MMAP_THRESHOLD: MOST}
SETTLED = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20}
"""Where glibc's own thresholds come to rest in a process that frees large blocks."""
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables by which a user decides."""


@cache
def keep_freed() -> bool:
    """Has freed memory stay with this process; whether it does: not without glibc, nor where the user has decided."""
    if any(name in os.environ for name in CHOSEN):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return all(set_option(option, value) for option, value in KEPT.items())


def keeps() -> bool:
    """Whether freed memory stays with this process, because a network was built in it."""
    return keep_freed.cache_info().currsize > 0 and keep_freed()


def thresholds() -> dict[int, int]:
    """Options of glibc's malloc and their values here, for who changes them for a while."""
    return KEPT if keeps() else SETTLED
