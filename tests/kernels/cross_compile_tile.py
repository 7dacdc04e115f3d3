"""Compiles the kernels of attention in one tile for a GPU that is not there, and prints a line of JSON for each.

    python tests/kernels/cross_compile_tile.py 90 50x64,64x64

of N x D. What is printed, and why this is a process of its own, as in `cross_compile`.
"""

from __future__ import annotations

import json
import sys

from cross_compile import compiled
from triton.backends.compiler import GPUTarget

from metablocks.kernels import tile_kernels, tile_launch


def main() -> None:
    target = GPUTarget("cuda", int(sys.argv[1]), 32)
    for case in sys.argv[2].split(","):
        tokens, width = map(int, case.split("x"))
        fixed, options = tile_launch.fixed(tokens, width), tile_launch.options(tokens)
        for kernel in (tile_kernels.forward, tile_kernels.backward):
            told = {"kernel": kernel.__name__, "case": case}
            print(json.dumps(told | compiled(kernel, target, fixed, options)), flush=True)


if __name__ == "__main__":
    main()
