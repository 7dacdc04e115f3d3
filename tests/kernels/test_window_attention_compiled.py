"""The kernels of window attention compiled for GPUs that are not there: registers, spills, matrix instructions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cross_compile.py")
LIMITS = {"forward": 168, "whole": 232}
MATRIX = {80: ["mma"], 90: ["wgmma"]}
SPILLS_OF_LATER_TRITON = 80  # bytes, of variants with padding: seen with Triton 3.8, none with 3.6 and 3.7


def _spills() -> int:
    """Bytes that a variant with padding may spill."""
    import triton

    later = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 8)
    return SPILLS_OF_LATER_TRITON if later else 0


def _missing() -> str:
    if find_spec("triton") is None:
        return "Triton's compiler is not installed"
    import triton

    found = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    return "" if found.exists() else "this build of Triton has no ptxas"


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing() or "-")


# capability, sides of windows, what else the script is told, and how many kernels that makes
CASES = [
    (capability, *case)
    for capability in MATRIX
    for case in (("7,8", (), 2 * 8 * 2), ("12,16", ("shifted",), 2 * 4 * 4))
]


@pytest.fixture(scope="module")
def compiled() -> dict[tuple, subprocess.CompletedProcess[str]]:
    """What the script prints, side by side on all cores: a compiler is slow."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return dict(zip(CASES, pool.map(_compile, CASES), strict=True))


def _compile(case: tuple) -> subprocess.CompletedProcess[str]:
    capability, sides, more, _ = case
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(SCRIPT.parents[2]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, str(SCRIPT), str(capability), sides, "32", *more]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"sm_{case[0]}, {case[1]}")
def test_no_variant_spills_and_each_has_matrix_instructions(case: tuple, compiled) -> None:
    """With padding and without, by dot products and by cosines; of one tile also those that are not shifted."""
    done, (capability, *_, kernels) = compiled[case], case
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == kernels
    assert [one for one in found if one["spills"] > (_spills() if one["padded"] else 0)] == []
    assert [one for one in found if one["matrix"] != MATRIX[capability]] == []
    assert [one for one in found if one["registers"] > LIMITS.get(one["kernel"], 255)] == []
