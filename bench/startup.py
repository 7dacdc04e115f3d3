"""How soon the command line answers, beside what `import torch` alone takes, interleaved.

python bench/startup.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

METABLOCKS = (sys.executable, "-m", "metablocks")
COMMANDS = {
    "import torch": (sys.executable, "-c", "import torch"),
    "metablocks --help": (*METABLOCKS, "--help"),
    "metablocks explain swin_t, first": (*METABLOCKS, "explain", "swin_t"),
    "metablocks explain swin_t, again": (*METABLOCKS, "explain", "swin_t"),
}


def seconds(command: tuple[str, ...], cache: str) -> float:
    """Wall time of a command whose counts are remembered in `cache`."""
    start = time.perf_counter()
    environment = os.environ | {"METABLOCKS_CACHE": cache}
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:  # empty for the first `explain`, filled for the second
            for name, command in COMMANDS.items():
                times[name].append(seconds(command, cache))
    torch = statistics.median(times["import torch"])
    for name, spent in times.items():
        middle = statistics.median(spent)
        print(
            f"{name:33} median {middle:5.2f} s [{min(spent):.2f}, {max(spent):.2f}], {middle - torch:+.2f} s to torch"
        )


if __name__ == "__main__":
    main()
