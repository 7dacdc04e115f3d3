"""How much of the time of a measurement is measured: seconds of rounds over seconds of the loop that took them.

    metablocks bench vit_ti16 --seconds 30 --processes 1 --out overhead.jsonl && python bench/overhead.py overhead.jsonl

Starting workers, building, compiling and warming up stand outside of that loop.
"""

from __future__ import annotations

import sys
from pathlib import Path

from metablocks.bench import store
from metablocks.bench.turns import pairs


def main() -> int:
    for base, other in pairs(store.read(Path(sys.argv[1])).records):
        for index, both in enumerate(zip(base.processes, other.processes, strict=True), 1):
            timed, wall = sum(sum(one.rounds_s) for one in both), both[0].wall_s
            names = f"{base.name}, {base.compile} | {other.name}, {other.compile}"
            print(f"{names}, process {index}: {timed:.1f} s of rounds in {wall:.1f} s: {100 * timed / wall:.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
