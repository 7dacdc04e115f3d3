"""Freed memory stays with a process in which a network was built on a CPU: asked of processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

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
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(20, 1 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(heap.keeps(), faults())
"""
PAGES = (20 << 22) // 4096


def told(spec: str, **variables: str) -> list[str]:
    """Whether freed memory is kept, and how many new pages 80 MiB that were freed before cost."""
    chosen = ("MALLOC_", "GLIBC_", "LD_PRELOAD")
    own = {name: value for name, value in os.environ.items() if not name.startswith(chosen)} | variables
    done = subprocess.run([sys.executable, "-c", WORKER, spec], env=own, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_what_a_network_frees_costs_no_new_pages():
    keeps, faults = told(SPEC)
    assert keeps == "True"
    assert int(faults) < PAGES / 100


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_a_user_decides_by_a_variable(name):
    keeps, _ = told(SPEC, **{name: "1048576"})
    assert keeps == "False"


def test_without_a_network_nothing_changes():
    keeps, faults = told("")
    assert keeps == "False"
    assert int(faults) > 0
