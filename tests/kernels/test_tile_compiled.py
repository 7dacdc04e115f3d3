"""The kernels of attention in one tile compiled for GPUs that are not there: registers, spills, matrix instructions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cross_compile_tile.py")
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton's compiler is not installed")

# N x D: most registers of the forward and of the backward pass. Four and three programs stay on a multiprocessor, and
# five and four where heads have 32 channels
CASES = {"50x64": (112, 168), "64x64": (112, 168), "50x32": (96, 128), "49x32": (96, 128)}
# the largest that fit, and some that fill little of their tiles
EDGES = {"128x64": (255, 255), "64x128": (255, 255), "65x20": (255, 255), "17x16": (255, 255)}


@pytest.mark.parametrize(("capability", "matrix"), [(80, "mma"), (90, "wgmma")])
@pytest.mark.parametrize("cases", [CASES, EDGES], ids=["of networks", "at the edges"])
def test_nothing_spills_and_products_are_matrix_instructions(capability: int, matrix: str, cases: dict) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(SCRIPT.parents[2]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, SCRIPT, str(capability), ",".join(cases)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["case"], one["kernel"]) for one in found] == [
        (case, kernel) for case in cases for kernel in ("forward", "backward")
    ]
    for one in found:
        assert one["spills"] == 0
        # a matrix instruction of sm_90 is for 64 rows
        assert one["matrix"] == (["mma"] if one["case"].startswith("17x") else [matrix])
        assert one["registers"] <= cases[one["case"]][one["kernel"] == "backward"]
        assert one["shared"] <= 99 * 1024  # what the smallest of these GPUs has
