"""Commands that answer at once must not import what is slow. Told by sys.modules, not by a clock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Prints the slow modules that are loaded, on a line of its own at the end. pydantic counts where a module of ours holds
# something of it: typer >= 0.29 imports it for itself.
PROBE = """
import sys

def origin(value):
    name = getattr(value, "__module__", None) or getattr(value, "__name__", None)
    return str(name).partition(".")[0]

def report():
    slow = {"torch", "triton", "numpy"} & set(sys.modules)
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("metablocks", "__main__")]
    if any(origin(value) == "pydantic" for module in ours for value in vars(module).values()):
        slow.add("pydantic")
    print()
    print("loaded:", *sorted(slow))
"""

COMMAND = """
from metablocks.cli import main
try:
    code = main()
except SystemExit as end:
    code = end.code
report()
sys.exit(code)
"""


def loaded(code: str, *arguments: str) -> list[str]:
    """The slow modules that `code` leaves behind in a fresh interpreter; fails with its stderr on an error."""
    command = [sys.executable, "-c", PROBE + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].removeprefix("loaded:").split()


@pytest.mark.parametrize("module", ["metablocks", "metablocks.core.shipped"])
def test_importing_a_light_module_loads_nothing_slow(module: str) -> None:
    assert loaded(f"import {module}; report()") == []


RESULTS = Path(__file__).parents[1] / "bench" / "results" / "headline_cpu.jsonl"
LIGHT = ["--help", "specs", "specs --json", "bench --help", "compare --help", "report --help",
         "compare RESULTS RESULTS", "compare RESULTS RESULTS --json", "report RESULTS", "report RESULTS --json",
         "report RESULTS --html -", "report RESULTS --csv -", "report RESULTS --markdown -"]  # fmt: skip


@pytest.mark.parametrize("command", LIGHT)
def test_a_light_command_loads_nothing_slow(command: str) -> None:
    assert loaded(COMMAND, *(str(RESULTS) if word == "RESULTS" else word for word in command.split())) == []


@pytest.mark.parametrize("code", ["import pydantic", "from pydantic import BaseModel"])
def test_the_probe_sees_pydantic(code: str) -> None:
    assert loaded(f"{code}; report()") == ["pydantic"]


def test_the_probe_sees_what_something_else_imports() -> None:
    assert "numpy" in loaded("import safetensors.numpy; report()")
