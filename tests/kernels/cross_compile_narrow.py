"""Compiles the kernels of a channel-MLP branch for a GPU that is not there, and prints a line of JSON for each.

    python tests/kernels/cross_compile_narrow.py 90 96,128,128:known,64:star bf16

of widths, with a hidden layer four times as wide; of a norm over the image, with drop path, or of StarReLU. What is
printed, and why this is a process of its own, as in `cross_compile`.
"""

from __future__ import annotations

import json
import sys

from cross_compile import compiled
from triton.backends.compiler import GPUTarget

from metablocks.kernels import narrow_kernels, narrow_launch


def main() -> None:
    target = GPUTarget("cuda", int(sys.argv[1]), 32)
    for case in sys.argv[2].split(","):
        width, _, what = case.partition(":")
        known = what == "known"
        there = {"GELU": what != "star", "KNOWN": known, "SKIPS": False, "DROPS": known}
        there |= {"SHIFTS": what != "star", "FACTORS": {"": 0, "star": 1, "known": 2}[what], "OFFSETS": True}
        for name in narrow_launch.TILES[80]:
            kernel = getattr(narrow_kernels, name)
            fixed, options = narrow_launch.settings(name, int(width), 4 * int(width), target.arch)
            fixed |= {one: there[one] for one in there if one in kernel.arg_names}
            made = compiled(kernel, target, fixed, options, sys.argv[3])
            print(json.dumps({"kernel": name, "case": case} | made), flush=True)


if __name__ == "__main__":
    main()
