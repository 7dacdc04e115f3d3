"""Multiply-accumulates and activations of the shipped networks by two counters: torch's, and fvcore's.

    python bench/count_twice.py [NAMES] [--up-to 200]        # pip install fvcore

torch counts each distinct part on the meta device; fvcore traces the whole network on the CPU. Exit code 1 where they
differ at all.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version

import torch

import metablocks as mb
from metablocks.build import build
from metablocks.core.shipped import shipped_names
from metablocks.costs import ACTIVATIONS, CONVENTION, Cost
from metablocks.costs.second import count_again
from metablocks.plan import Plan


def counted_again(plan: Plan) -> Cost:
    """fvcore's count of the network of a plan, with values, for one image."""
    stem = plan.encoder.stem
    inputs = [torch.rand(1, stem.channels, *stem.image)]
    if plan.decoder:
        inputs.append(torch.rand(1, plan.decoder.mask.units[0] * plan.decoder.mask.units[1]))
    return count_again(build(plan), inputs)


def number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def row(name: str, limit: float) -> tuple[str, bool | None]:
    """A line of the table, and whether the two agree; None where the network is too large to be traced."""
    plan = mb.plan(name)
    first = plan.costs.total
    told = f"{name:20} {number(first.macs):>18}"
    if first.macs is not None and first.macs > limit:
        return f"{told} {'above the limit':>18}", None
    second = counted_again(plan)
    same = first == second and first.macs is not None
    told += f" {number(second.macs):>18} {number(first.activations):>14} {number(second.activations):>14}"
    unknown = {*first.unknown, *second.unknown}
    return " ".join([told, f" {'equal' if same else 'DIFFER'}", *sorted(unknown)]), same


def table(names: Sequence[str], limit: float) -> int:
    """Prints a line for each network as it is counted; the number of those that differ."""
    print(f"torch {torch.__version__}, fvcore {version('fvcore')}", CONVENTION, ACTIVATIONS, "", sep="\n")
    print(f"{'spec':20} {'MACs, torch':>18} {'MACs, fvcore':>18} {'activations':>14} {'fvcore':>14}")
    results = []
    for index, name in enumerate(names, 1):
        start = time.perf_counter()
        line, same = row(name, limit)
        results.append(same)
        print(line, flush=True)
        print(f"{index} of {len(names)}: {name}, {time.perf_counter() - start:.1f} s", file=sys.stderr)
    above = f", {results.count(None)} above the limit of {limit / 1e9:g} GMACs" if None in results else ""
    print(f"{results.count(True)} equal, {results.count(False)} differ{above}")
    return results.count(False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=shipped_names(), metavar="NAMES")
    parser.add_argument("--up-to", type=float, default=200, help="GMACs of the largest network that is traced")
    options = parser.parse_args()
    return 1 if table(options.names, options.up_to * 1e9) else 0


if __name__ == "__main__":
    sys.exit(main())
