"""The kernels of a pooling branch compiled for GPUs that are not there: registers, spills, widths of loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cross_compile_pool.py")
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton's compiler is not installed")


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    "case",
    [
        {"grid": [56, 56], "width": 64, "window": 3},
        {"grid": [14, 14], "width": 320, "window": 5},
        {"grid": [7, 7], "width": 512, "window": 7},
    ],
    ids=lambda case: str(case["window"]),
)
def test_two_programs_fit_a_multiprocessor_and_maps_go_in_full_width(capability: int, case: dict) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(SCRIPT.parents[2]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, SCRIPT, str(capability), json.dumps(case)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for kernel in json.loads(done.stdout).values():
        assert kernel["spills"] == 0
        assert kernel["registers"] <= 128
        assert (kernel["load"], kernel["store"]) == (128, 128)
