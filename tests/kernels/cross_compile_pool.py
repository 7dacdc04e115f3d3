"""Compiles the kernels of a pooling branch for a GPU that is not there, and prints as JSON what became of each.

    python tests/kernels/cross_compile_pool.py 90 '{"grid": [56, 56], "width": 64, "window": 3}'

Registers a thread, bytes of spills, and the widest loads and stores of maps, in bits. By itself, because a process
whose Triton interprets cannot compile.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from metablocks.kernels import pool_backward, pool_forward, pool_launch

NUMBERS = {"images", "height", "width", "channels"}
WIDE = {"before", "after", "grad_before", "kept", "shares", "passed"}  # in fp32; the other tensors are of the dtype
TOLD = re.compile(r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


def main() -> None:
    target, case = GPUTarget("cuda", int(sys.argv[1]), 32), json.loads(sys.argv[2])
    x = torch.empty(1, case["grid"][0] * case["grid"][1], case["width"], device="meta")
    there = torch.empty(0)
    fixed = pool_launch.fixed(x, (there, there, there), (*case["grid"], case["window"]))
    kernels = {"forward": pool_forward.forward, "backward": pool_backward.backward}
    print(json.dumps({name: compiled(kernel, target, fixed) for name, kernel in kernels.items()}))


def compiled(kernel, target: GPUTarget, fixed: dict) -> dict:
    """A kernel in bf16, with the alignment that tensors of torch and widths that 16 divides have."""
    signature, aligned = {}, {}
    for index, name in enumerate(kernel.arg_names):
        signature[name] = kind(name) if name not in fixed else "constexpr"
        if signature[name].startswith("*") or name == "channels":
            aligned[(index,)] = [["tt.divisibility", 16]]
    made = triton.compile(ASTSource(kernel, signature, fixed, aligned), target=target, options=pool_launch.OPTIONS)
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(made.asm["cubin"])
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        told = subprocess.run([tool, "-res-usage", binary], capture_output=True, text=True, check=True)
    _, registers, stack, _, local = TOLD.search(told.stdout + told.stderr).groups()
    return {
        "registers": int(registers),
        "spills": int(stack) + int(local),
        "load": widest("ld", made.asm["ptx"]),
        "store": widest("st", made.asm["ptx"]),
    }


def widest(operation: str, ptx: str) -> int:
    found = re.findall(rf"{operation}\.global\S*?(?:\.v(\d))?\.b(\d+)", ptx)
    return max(int(many or 1) * int(bits) for many, bits in found)


def kind(name: str) -> str:
    if name in NUMBERS:
        return "i32"
    if name == "eps":
        return "fp32"
    return "*fp32" if name in WIDE else "*bf16"


if __name__ == "__main__":
    main()
