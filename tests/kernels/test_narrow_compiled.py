"""The kernels of a channel-MLP branch compiled for GPUs that are not there: registers, spills, matrix instructions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cross_compile_narrow.py")
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton's compiler is not installed")

KERNELS = ["forward", "backward_tokens", "backward_weights"]
# Swin-T, Swin-B, CAFormer, PoolFormer
CASES = {"bf16": "96,128,64:star,128:star,64:known,128:known", "fp16": "96,128,64:known"}


@pytest.mark.parametrize(("capability", "matrix"), [(80, "mma"), (90, "wgmma")])
@pytest.mark.parametrize("dtype", CASES)
def test_nothing_spills_and_products_are_matrix_instructions(capability: int, matrix: str, dtype: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(SCRIPT.parents[2]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, SCRIPT, str(capability), CASES[dtype], dtype]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["case"], one["kernel"]) for one in found] == [
        (case, kernel) for case in CASES[dtype].split(",") for kernel in KERNELS
    ]
    for one in found:
        assert one["spills"] == 0, one
        assert one["matrix"] == [matrix]
        assert one["shared"] <= 99 * 1024  # what the smallest of these GPUs has
