"""Cold compile time against depth: one network at depth 4 and at depth 24, each round in fresh processes and caches.

    python bench/compile_depth.py [--rounds 3] [--train]

Prints seconds to the end of the first call for every round, interleaved 4 24 24 4, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

DEPTHS = (4, 24)
WORKER = """
import json, sys, time
import torch, torch._dynamo, torch._inductor.compile_fx
import metablocks as mb
depth, train = json.loads(sys.argv[1])
edits = [f"stages.0.depth={depth}", "drop_path=0.1"]
model = mb.build("vit_ti16", set=edits, compile="block").train(train)
images = torch.randn(2, 3, 224, 224)
start = time.perf_counter()
out = model(images)
if train:
    out.sum().backward()
first = time.perf_counter() - start
start = time.perf_counter()
out = model(images)
if train:
    out.sum().backward()
print(json.dumps(first - (time.perf_counter() - start)))
"""


def compile_seconds(depth: int, train: bool) -> float:
    """Seconds that the first call takes beyond a second one, with an empty compile cache."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache, "TORCHINDUCTOR_FX_GRAPH_CACHE": "0"}
        command = [sys.executable, "-c", WORKER, json.dumps([depth, train])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train", action="store_true")
    args = parser.parse_args()
    times: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
    for index in range(args.rounds):
        for depth in DEPTHS if index % 2 == 0 else DEPTHS[::-1]:
            times[depth].append(compile_seconds(depth, args.train))
    for depth, seconds in times.items():
        print(f"depth {depth:2}: {', '.join(f'{value:.2f} s' for value in seconds)}")
    shallow, deep = (statistics.median(times[depth]) for depth in DEPTHS)
    mode = "training" if args.train else "inference"
    print(f"{mode}: depth 24 / depth 4 = {deep / shallow:.2f} (medians of {args.rounds})")


if __name__ == "__main__":
    main()
