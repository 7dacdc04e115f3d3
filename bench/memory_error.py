"""Predicted against measured peak memory, each measured in a process of its own after a few calls.

    python bench/memory_error.py [NAMES] [--device cuda] [--infer 8] [--train 4] [--dtype float32]

Exit code 1 where a prediction is further than 10 % from the measurement.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys

import torch

from metablocks.bench.predict import predicted
from metablocks.core import units
from metablocks.plan import plan
from metablocks.spec import read

NAMES = ("vit_s16", "vit_b16", "mixer_s16", "mixer_b16", "swin_t", "poolformer_s12", "mae_vit_b16")
WITHIN = 0.1
WORKER = """
import json, sys
from metablocks.bench import memory, models, work
from metablocks.bench.case import Case
from metablocks.bench.subject import subject
name, mode, batch, dtype, device = json.loads(sys.argv[1])
case = Case(subject(name), mode=mode, batch=batch, dtype=dtype, device=device)
found = models.load(case)
models.compile_subject(case, found)
job = work.work(case, found.model, found.shapes, batch)
for _ in range(3):
    job.call()
measured = memory.measured(job, device)
print(json.dumps([measured.peak_bytes, measured.method]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--infer", type=int, default=8, help="images in a forward pass")
    parser.add_argument("--train", type=int, default=4, help="images in a step of training")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    cuda = given.device.startswith("cuda")
    place = torch.cuda.get_device_name(given.device) if cuda else f"{platform.system()} {platform.machine()}"
    print(f"torch {torch.__version__}, {place}, {given.dtype}, eager, AdamW in training")
    print(
        f"{'network':16} {'mode':8} {'batch':>5} {'predicted':>12} {'measured':>12} {'of which held':>14} {'error':>8}"
    )
    worst, methods = 0.0, set()
    for name in given.names:
        planned = plan(read(name))
        for mode in ("infer", "pretrain" if planned.decoder else "train"):
            batch = given.infer if mode == "infer" else given.train
            told = predicted(planned, mode, batch, given.dtype, "cuda" if cuda else "cpu")
            peak, method = measured(name, mode, batch, given.dtype, given.device)
            assert told.peak_bytes is not None
            error = told.peak_bytes / peak - 1
            worst = max(worst, abs(error))
            methods.add(method)
            sizes = [
                units.mebibytes(size) for size in (told.peak_bytes, peak, told.parameters_bytes + told.optimiser_bytes)
            ]
            print(
                f"{name:16} {mode:8} {batch:5} {sizes[0]:>12} {sizes[1]:>12} {sizes[2]:>14} {100 * error:+7.2f}%",
                flush=True,
            )
    print(f"largest error {100 * worst:.2f} %; measured by {', '.join(sorted(methods))}")
    sys.exit(worst > WITHIN)


def measured(name: str, mode: str, batch: int, dtype: str, device: str) -> tuple[int, str]:
    """The measured peak in bytes and its method, from a fresh process."""
    asked = json.dumps([name, mode, batch, dtype, device])
    ended = subprocess.run([sys.executable, "-c", WORKER, asked], check=True, capture_output=True, text=True)
    peak, method = json.loads(ended.stdout)
    return int(peak), method


if __name__ == "__main__":
    main()
