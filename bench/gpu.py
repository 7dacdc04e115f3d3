"""The table that a GPU fills: each network against timm compiled, in turns, in one run. Checked first, then timed.

    python bench/gpu.py                      # what is missing, in order: the tests for a GPU, then row by row
    python bench/gpu.py --only swin_t/check  # one row, only checked
    python bench/gpu.py --only swin_t/train  # one row in one mode: a few minutes; `swin_t` is both, `tests` the tests
    python bench/gpu.py --table              # the table as far as it is filled; measures nothing

What was measured under the same conditions is not measured again, so it can be stopped and started at will. The clock,
the statistics and the records are those of `metablocks bench`. Checks stand beside the results, in `gpu_checks.jsonl`;
they hold for the sources that they were made with. Exit code 1 where a check fails, 4 where a case does, 6 where there
is no GPU, or no timm.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import torch
from gpu_table import NETWORKS, SMALL, Row, Step, print_table

from metablocks.bench import store
from metablocks.bench.case import Case
from metablocks.bench.cells import cases
from metablocks.bench.conditions import Conditions
from metablocks.bench.resume import remaining
from metablocks.bench.run import run
from metablocks.bench.subject import subject
from metablocks.build import device_of
from metablocks.cli.common import following
from metablocks.core.errors import MetablocksError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "gpu.jsonl"
TESTS = "tests"
GPU_TESTS = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "gpu", str(ROOT / "tests")]
WRONG, FAILED = 1, 4
LIMIT_S = 540  # of a check
WORKER_S = 300


def main() -> int:
    given = _arguments()
    rows = (SMALL,) if given.small else NETWORKS
    if given.mae_original:
        rows = tuple(replace(row, originals=(given.mae_original,)) if row.masked else row for row in rows)
    if given.table:
        print_table(rows, _records(given.out), _checks(given.out))
        return 0
    try:
        device_of(given.device)
        code = _all(rows, given)
    except MetablocksError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    print_table(rows, _records(given.out), _checks(given.out))
    return code


def _all(rows: tuple[Row, ...], given: argparse.Namespace) -> int:
    """The tests and the rows that are asked for; the exit code."""
    names = {row.name for row in rows} | {step.name for row in rows for step in row.steps}
    names |= {f"{row.name}/check" for row in rows}
    if given.only not in (None, TESTS, *names):
        print(f"no row `{given.only}`: tests, {', '.join(row.name for row in rows)}", file=sys.stderr)
        return 2
    cuda = given.device.startswith("cuda")
    if given.only in (None, TESTS) and cuda and not _checked(given, TESTS, GPU_TESTS):
        return WRONG
    codes = {0}
    for row in rows:
        steps = [step for step in row.steps if given.only in (None, row.name, step.name)]
        asked = steps or given.only == f"{row.name}/check"
        if asked and not _checked(given, row.name, _check(row, given)):
            codes.add(WRONG)
            continue
        codes |= {_timed(step, given) for step in steps}
    return WRONG if WRONG in codes else max(codes)


def _check(row: Row, given: argparse.Namespace) -> list[str]:
    """The command that checks a network."""
    command = [sys.executable, str(ROOT / "bench" / "gpu_check.py"), row.spec, "--device", given.device]
    return command + (["--against", row.against] if row.against.startswith("timm:") else [])


def _checked(given: argparse.Namespace, name: str, command: list[str]) -> bool:
    """Whether a check passes, or has passed here with these sources. It runs in a process of its own."""
    here = {"check": name, **_here(given.device)}
    if any(one["passed"] and here.items() <= one.items() for one in _checks(given.out)):
        return True
    print(f"checking {name}", file=sys.stderr, flush=True)
    try:
        ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT_S, cwd=ROOT)
        passed, told = ended.returncode == 0, _last_line(ended)
    except subprocess.TimeoutExpired:
        passed, told = False, f"not done within {LIMIT_S} s"
    with _beside(given.out).open("a") as file:
        file.write(json.dumps(here | {"passed": passed, "told": told}) + "\n")
    if not passed:
        print(f"{name} is wrong: {told}", file=sys.stderr)
    return passed


def _last_line(ended: subprocess.CompletedProcess[str]) -> str:
    lines = (ended.stdout.strip() or ended.stderr.strip()).splitlines()
    return lines[-1] if lines else f"exit code {ended.returncode}"


def _timed(step: Step, given: argparse.Namespace) -> int:
    """Times the pairs of a step that are missing; the exit code."""
    code = 0
    if not step.bases:
        print(f"{step.name} needs the original: --mae-original FILE.py:FACTORY", file=sys.stderr)
    known = _records(given.out)
    store.check(given.out)
    for what, pair in _pairs(step, given):
        with following(what) as watch:
            if not remaining([pair], known, watch):
                continue
            found = run(pair, watch, uuid.uuid4().hex[:12])
        for record in found:
            store.append(given.out, record)
            if record.status != "ok":
                print(f"{record.name} failed: {record.reason}", file=sys.stderr)
                code = FAILED
    return code


def _pairs(step: Step, given: argparse.Namespace) -> list[tuple[str, tuple[Case, Case]]]:
    """Each base with us, and what it is called."""

    def case(source: str, how: str) -> Case:
        conditions = Conditions(
            (step.mode,),
            (given.batch,),
            dtypes=(given.dtype,),
            compiles=(how,),
            device=given.device,
            seconds=given.seconds,
            processes=given.processes,
            limit_s=WORKER_S,
        )
        return cases([subject(source)], conditions)[0]

    made = []
    for source, how in step.bases:
        pair = case(source, how), case(step.row.spec, "block")
        made.append((f"{step.name}: {pair[1].label} against {pair[0].label}", pair))
    return made


def _records(path: Path) -> tuple[store.Record, ...]:
    return store.read(path).records if path.exists() else ()


def _checks(path: Path) -> list[dict[str, object]]:
    file = _beside(path)
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}_checks.jsonl")


def _here(device: str) -> dict[str, str]:
    """What a check holds for."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    digest = hashlib.sha256()
    for path in sorted((ROOT / "metablocks").rglob("*.py")):
        digest.update(path.read_bytes())
    return {"device_name": name, "torch": torch.__version__, "sources": digest.hexdigest()[:16]}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="ROW", help="a network, a network/mode, or tests")
    parser.add_argument("--table", action="store_true", help="print the table and measure nothing")
    parser.add_argument("--mae-original", metavar="FILE.py:FACTORY", help="the masked autoencoder as published")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="results file, appended to")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=5.0, help="timed in each process")
    parser.add_argument("--processes", type=int, default=3, help="of each side")
    parser.add_argument("--small", action="store_true", help="a tiny network against itself: a trial of this script")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
