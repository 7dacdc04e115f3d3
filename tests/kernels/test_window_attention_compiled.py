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
LIMITS = {"forward": 168, "whole": 232}
MATRIX = {80: ["mma"], 90: ["wgmma"]}


def _missing() -> str:
    if find_spec("triton") is None:
        return "Triton's compiler is not installed"
    import triton

    found = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    return "" if found.exists() else "this build of Triton has no ptxas"


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing() or "-")


@pytest.mark.parametrize("capability", MATRIX)
@pytest.mark.parametrize(("sides", "only", "kernels"), [("7,8", [], 2 * 8 * 2), ("12,16", ["shifted"], 2 * 4 * 4)])
def test_no_variant_spills_and_each_has_matrix_instructions(
    capability: int, sides: str, only: list[str], kernels: int
) -> None:
    """With padding and without, by dot products and by cosines; of one tile also those that are not shifted."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(SCRIPT.parents[2]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, SCRIPT, str(capability), sides, "32", *only]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == kernels
    assert [one for one in found if one["spills"]] == []
    assert [one for one in found if one["matrix"] != MATRIX[capability]] == []
    assert [one for one in found if one["registers"] > LIMITS.get(one["kernel"], 255)] == []
