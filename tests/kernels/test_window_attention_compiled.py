"""The kernels of window attention compiled for GPUs that are not there: registers, spills, matrix instructions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cross_compile.py")
# Bytes a thread: the two lengths of each row are more than registers hold beside bias, its gradient and the scores.
COSINE_SPILLS = 192
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton's compiler is not installed")


def compiled(capability: int, **case) -> dict[str, dict]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(SCRIPT.parents[2]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, SCRIPT, str(capability), json.dumps({"head_dim": 32, "shifted": True} | case)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("cosine", [False, True])
def test_a_window_of_one_tile_stays_in_registers(capability: int, side: int, cosine: bool) -> None:
    found = compiled(capability, window=[side, side], cosine=cosine)
    assert set(found) == {"forward", "queries"}
    assert found["forward"]["registers"] <= 168
    assert found["queries"]["registers"] <= 232
    assert found["forward"]["spills"] == 0
    assert found["queries"]["spills"] <= (COSINE_SPILLS if cosine else 0)
    assert all(kernel["matrix"] for kernel in found.values())


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("cosine", [False, True])
def test_a_window_of_four_tiles_has_matrix_instructions(capability: int, cosine: bool) -> None:
    found = compiled(capability, window=[16, 16], cosine=cosine)
    """Its rows of 256 scores do not stay in registers: it is right, and has yet to be made fast."""
    assert set(found) == {"forward", "queries", "keys"}
    assert all(kernel["matrix"] for kernel in found.values())
