"""Freed memory stays with a process in which a network was built on a CPU: asked of processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from metablocks.core import heap

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's malloc")
SPEC = """
net: classifier
image: {size: 8}
classes: 4
stem: {patch_embed: {patch: 4}}
block: {norm: layer_norm, mixer: pooling, mlp: {ratio: 1}}
stages: [{dim: 4, depth: 1}]
head: {pool: mean}
"""
WORKER = """
import resource, sys
import torch
import metablocks as mb
from metablocks.core import heap
if sys.argv[1]:
    mb.build(sys.argv[1])
def faults(calls):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        maps = [torch.ones(size, 1 << 18) for size in (8, 24, 8, 32, 8)]
        del maps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(8)  # in which the heap settles
print(heap.keeps(), faults(4))
"""
PAGES = 4 * (80 << 20) // 4096


def told(spec: str, **variables: str) -> list[str]:
    """Whether freed memory is kept, and how many new pages four calls take that need 80 MiB each."""
    chosen = ("MALLOC_", "GLIBC_", "LD_PRELOAD")
    own = {name: value for name, value in os.environ.items() if not name.startswith(chosen)} | variables
    done = subprocess.run([sys.executable, "-c", WORKER, spec], env=own, capture_output=True, text=True, check=True)
    return done.stdout.split()


def huge_pages() -> bool:
    """Whether one fault may bring in 2 MiB."""
    file = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return file.exists() and "[always]" in file.read_text()


def test_what_a_network_frees_costs_no_new_pages():
    keeps, faults = told(SPEC)
    assert keeps == "True"
    assert int(faults) < PAGES / 20


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_a_user_decides_by_a_variable(name):
    keeps, _ = told(SPEC, **{name: "1048576"})
    assert keeps == "False"


def test_without_a_network_nothing_changes():
    keeps, faults = told("")
    assert keeps == "False"
    assert int(faults) > PAGES / 4 or huge_pages()


def test_an_older_library_keeps_smaller_blocks(monkeypatch):
    """glibc 2.31 refuses a gibibyte, and once the other threshold is set it leaves this one where it stands."""
    asked = []

    def mallopt(option, value):
        asked.append((option, value))
        return int(option == heap.M_TRIM_THRESHOLD or value <= 32 << 20)

    for name in heap.CHOSEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=mallopt))
    heap.keep_freed.cache_clear()
    try:
        assert (
            heap.keep_freed() == heap.thresholds() == {heap.M_MMAP_THRESHOLD: 32 << 20, heap.M_TRIM_THRESHOLD: 1 << 30}
        )
        assert [option for option, _ in asked] == 2 * [heap.M_MMAP_THRESHOLD] + [heap.M_TRIM_THRESHOLD]
    finally:
        heap.keep_freed.cache_clear()
