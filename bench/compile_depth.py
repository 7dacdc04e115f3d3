"""Cold compile time against depth, per block and as a whole: each measurement in a fresh process with its own cache.

    python bench/compile_depth.py [--rounds 3] [--train]

One network at depth 4 and 16 with compile="block", and at depth 16 with compile="model", in turns. Seconds of CPU time
of the first call beyond a second one, of torch and of the C++ compilers that it starts, as other work on the machine
stretches any other time. What inductor learns about a machine once and keeps on disk (which instructions its compiler
has) is learnt by a process before, and told apart: a cache is cold for the network, not for the machine. Of what a
process pays for any graph at all, by a graph of one operation, the share is told too; the ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CASES = ((4, "block"), (16, "block"), (16, "model"))
WORKER = """
import json, os, sys
import torch, torch._dynamo, torch._inductor.compile_fx
import metablocks as mb
depth, how, train = json.loads(sys.argv[1])
def spent():
    return sum(os.times()[:4])
def seconds(module, x):
    start = spent()
    with torch.set_grad_enabled(train):
        out = module(x)
    if train:
        out.sum().backward()
    return spent() - start
once = seconds(torch.compile(torch.nn.GELU()), torch.randn(64, requires_grad=train))
own = 0
if depth:
    model = mb.build("vit_ti16", set=[f"stages.0.depth={depth}", "drop_path=0.1"], compile=how).train(train)
    images = torch.randn(2, 3, 224, 224)
    own = seconds(model, images) - seconds(model, images)
print(json.dumps([once, own]))
"""
# compilers as children of the process itself, which is told their time
ALONE = {"TORCHINDUCTOR_FX_GRAPH_CACHE": "0", "TORCHINDUCTOR_COMPILE_THREADS": "1"}

Seconds = tuple[float, float]
"""What any first graph takes, and what the network takes beyond that."""


def compile_seconds(depth: int, how: str, train: bool, cache: Path) -> Seconds:
    """Of a process of its own; without a depth, of the first graph alone."""
    environment = os.environ | ALONE | {"TORCHINDUCTOR_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", WORKER, json.dumps([depth, how, train])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    once, own = json.loads(done.stdout.splitlines()[-1])
    return once, own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train", action="store_true")
    args = parser.parse_args()
    times: dict[tuple[int, str], list[Seconds]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        learnt, cache = Path(folder, "learnt"), Path(folder, "cache")
        first, _ = compile_seconds(0, "", args.train, learnt)
        print(f"once a machine, with the first graph: {first:.2f} s")
        for index in range(args.rounds):
            for case in CASES if index % 2 == 0 else CASES[::-1]:
                shutil.copytree(learnt, cache)
                times[case].append(compile_seconds(*case, args.train, cache))
                shutil.rmtree(cache)
    for (depth, how), seconds in times.items():
        print(f"depth {depth:2}, {how}: {', '.join(f'{once:.2f} + {own:.2f} s' for once, own in seconds)}")
    tell("training" if args.train else "inference", args.rounds, [times[case] for case in CASES])


def tell(mode: str, rounds: int, measured: list[list[Seconds]]) -> None:
    """The two ratios, with and without what any first graph takes."""
    for what, pick in (("in all", sum), ("beyond the first graph", lambda pair: pair[1])):
        shallow, deep, whole = (statistics.median(pick(pair) for pair in pairs) for pairs in measured)
        ratios = f"depth 16 / depth 4 = {deep / shallow:.2f}, block / model at depth 16 = {deep / whole:.2f}"
        print(f"{mode}, {what}: {ratios} (medians of {rounds})")


if __name__ == "__main__":
    main()
