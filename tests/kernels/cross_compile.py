"""Compiles the kernels of window attention for a GPU that is not there, and prints a line of JSON for each variant.

    python tests/kernels/cross_compile.py 90 7,8,12,16 [HEAD_DIM] [shifted]

Registers a thread, bytes of spills, bytes of shared memory, and which matrix instructions are in it. By itself, because
a process whose Triton interprets cannot compile.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from metablocks.kernels import window_backward, window_backward_tiles, window_forward, window_launch
from metablocks.kernels.window_layout import Windows

# to tensors of the dtype; the others are fp32
POINTERS = {"qkv", "fill", "out", "grad", "grad_qkv", "grad_spare", "x", "first", "second", "grad_x"}
NUMBERS = {"total", "tokens", "heads", "height", "width", "down", "right", "spares", "walkers"}
TOLD = re.compile(r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


BOTH = ((False, True), (False, True))


def main() -> None:
    target = GPUTarget("cuda", int(sys.argv[1]), 32)
    head_dim = int(sys.argv[3]) if len(sys.argv) > 3 else 32
    for side in map(int, sys.argv[2].split(",")):
        for shifted, padded, cosine in product((True,) if "shifted" in sys.argv else (False, True), *BOTH):
            windows = Windows(3, (57, 57), (side, side), (3, 3) if shifted else (0, 0), (side, side))
            given = torch.empty(0)
            fixed = window_launch._fixed(windows, 3 * head_dim, given if padded else None, given if cosine else None)
            case = {"side": side, "shifted": shifted, "padded": padded, "cosine": cosine}
            for name, kernel in kernels_of(windows).items():
                options = window_launch.options(name, fixed, target.arch)
                print(json.dumps({"kernel": name} | case | compiled(kernel, target, fixed, options)), flush=True)


def kernels_of(windows: Windows) -> dict:
    """Those of a forward and a backward pass that compute attention."""
    if windows.tiles == 1:
        return {"forward": window_forward.forward, "whole": window_backward.whole}
    backward = {name: getattr(window_backward_tiles, name) for name in ("queries", "keys", "pairs")}
    return {"forward": window_forward.forward} | backward


def compiled(kernel, target: GPUTarget, fixed: dict, options: dict, half: str = "bf16") -> dict:
    """A kernel in bf16, or another dtype, with the alignment that tensors of torch and widths that 16 divides have."""
    signature, aligned = {}, {}
    for index, name in enumerate(kernel.arg_names):
        signature[name] = kind(name).replace("bf16", half) if name not in fixed else "constexpr"
        if signature[name].startswith("*") or name == "total":
            aligned[(index,)] = [["tt.divisibility", 16]]
    made = triton.compile(ASTSource(kernel, signature, fixed, aligned), target=target, options=options)
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(made.asm["cubin"])
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        told = subprocess.run([tool, "-res-usage", binary], capture_output=True, text=True, check=True)
    _, registers, stack, _, local = TOLD.search(told.stdout + told.stderr).groups()
    return {
        "registers": int(registers),
        "spills": int(stack) + int(local),
        "shared": made.metadata.shared,
        "matrix": sorted(set(re.findall(r"wgmma(?=\.mma_async)|mma(?=\.sync)", made.asm["ptx"]))),
    }


def kind(name: str) -> str:
    if name in NUMBERS:
        return "i32"
    if name in ("scale", "eps"):
        return "fp32"
    return "*bf16" if name in POINTERS | {"bias"} else "*fp32"


if __name__ == "__main__":
    main()
