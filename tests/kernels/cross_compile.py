"""Compiles the kernels of window attention for a GPU that is not there, and prints as JSON what became of each.

    python tests/kernels/cross_compile.py 90 '{"window": [7, 7], "shifted": true, "head_dim": 32, "cosine": false}'

Registers a thread, bytes of spills, bytes of shared memory, and whether matrix instructions are in it. By itself,
because a process whose Triton interprets cannot compile.
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

from metablocks.kernels import window_backward, window_forward, window_launch
from metablocks.kernels.window_layout import WHOLE, Windows

POINTERS = {"qkv", "fill", "out", "grad", "grad_qkv"}  # to tensors of the dtype; the others are fp32
NUMBERS = {"total", "heads", "height", "width", "down", "right", "spares", "walkers"}
TOLD = re.compile(r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


def main() -> None:
    target, case = GPUTarget("cuda", int(sys.argv[1]), 32), json.loads(sys.argv[2])
    window = tuple(case["window"])
    windows = Windows(3, (56, 56), window, (3, 3) if case["shifted"] else (0, 0), window)
    table = torch.empty(0) if case["cosine"] else None
    fixed = window_launch._fixed(windows, 3 * case["head_dim"], None, table)
    rows, columns = window_launch.tiles(windows)
    ahead, back = (window_launch.options(columns, target.arch, backward) for backward in (False, True))
    tile = {"BLOCK_M": rows, "BLOCK_N": columns}
    whole = windows.length <= WHOLE
    found = {"forward": compiled(window_forward.forward, target, fixed | tile, ahead)}
    found["queries"] = compiled(window_backward.queries, target, fixed | tile | {"WHOLE": whole}, back)
    if not whole:
        turned = {"BLOCK_M": columns, "BLOCK_N": rows, "SUMS": -(-windows.length // rows) * rows}
        found["keys"] = compiled(window_backward.keys, target, fixed | turned, back)
    print(json.dumps(found))


def compiled(kernel, target: GPUTarget, fixed: dict, options: dict) -> dict:
    """A kernel in bf16, with the alignment that tensors of torch and widths that 16 divides have."""
    signature, aligned = {}, {}
    for index, name in enumerate(kernel.arg_names):
        signature[name] = kind(name) if name not in fixed else "constexpr"
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
        "matrix": bool(re.search(r"wgmma|mma\.sync", made.asm["ptx"])),
    }


def kind(name: str) -> str:
    if name in NUMBERS:
        return "i32"
    if name == "scale":
        return "fp32"
    return "*bf16" if name in POINTERS | {"table"} else "*fp32"


if __name__ == "__main__":
    main()
