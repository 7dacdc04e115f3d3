"""`compare`: two results files, or two subjects that are measured now: a ratio with its interval, and a verdict."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metablocks.cli.choices import Given
from metablocks.cli.common import Json, print_json
from metablocks.core.errors import Fault, InputError, StoreError
from metablocks.core.text import listed, printable

if TYPE_CHECKING:
    from metablocks.bench.compare import Compared
    from metablocks.bench.record import Record

A = Annotated[str, typer.Argument(metavar="A", help="the base: a results file, or a subject that is measured now")]
B = Annotated[str, typer.Argument(metavar="B", help="what is held against it: of the same kind")]
Percent = Annotated[
    float | None,
    typer.Option("--fail-if-slower", metavar="PCT", help="exit code 5 where B is worse and slower by more than this"),
]
Mode = Annotated[str | None, typer.Option("--mode", help="of subjects: infer, train, pretrain")]
Batch = Annotated[str | None, typer.Option("--batch", metavar="N", help="of subjects: images in a batch")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="of subjects: float32, bfloat16, amp_bfloat16, ...")]
Device = Annotated[str, typer.Option("--device", help="of subjects: cpu, cuda, cuda:1")]
How = Annotated[str, typer.Option("--compile", help="of subjects: none, block, model")]
Seconds = Annotated[float | None, typer.Option("--seconds", metavar="S", help="of subjects: timed in each process")]
Processes = Annotated[int | None, typer.Option("--processes", metavar="N", help="of subjects: pairs of processes")]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="of subjects: results file, appended to")]

FAILED, SOME_FAILED, SLOWER = 1, 4, 5
SUBJECTS = (".yaml", ".yml", ".py", ".safetensors", ".pth", ".pt", ".npz")
MEASURED = ("mode", "batch", "dtype", "device", "how", "seconds", "processes", "out")  # options of a measurement

Sides = tuple[Sequence["Record"], Sequence["Record"]]


def compare(  # noqa: PLR0913
    context: typer.Context,
    a: A,
    b: B,
    fail_if_slower: Percent = None,
    mode: Mode = None,
    batch: Batch = None,
    dtype: Dtype = None,
    device: Device = "cpu",
    how: How = "none",
    seconds: Seconds = None,
    processes: Processes = None,
    out: Out = Path("results.jsonl"),
    as_json: Json = False,
) -> None:
    """Compare B with A, two results files or two subjects: ratio with interval, and better, worse or cannot tell."""
    from metablocks.bench.compare import compare as compare_records
    from metablocks.bench.compare import to_data

    _check_percent(fail_if_slower)
    files = _are_files(a, b)
    if files:
        _refuse_options(context)
        sides = _read(a), _read(b)
    else:
        given = Given(mode=mode, batch=batch, dtype=dtype, how=how, seconds=seconds, processes=processes)
        sides = _measured(a, b, given, device, out)
    compared = compare_records(*sides)
    if as_json:
        print_json(to_data(compared))
    else:
        _print(compared, a, b)
    _end(compared, fail_if_slower)
    if not (compared.rows or files):
        raise typer.Exit(FAILED)


def _check_percent(percent: float | None) -> None:
    if percent is not None and not (math.isfinite(percent) and 0 <= percent <= 100):
        raise InputError(Fault(f"--fail-if-slower {percent:g}", help="percent, from 0 to 100"))


def _are_files(a: str, b: str) -> bool:
    """Whether results files are meant. A folder may be called like a shipped spec, so only files count."""
    kinds = [_is_file(one) for one in (a, b)]
    if kinds[0] != kinds[1]:
        file, subject = (a, b) if kinds[0] else (b, a)
        wrong = f"`{printable(file)}` is a results file and `{printable(subject)}` is not"
        raise InputError(Fault(wrong, help="give two results files, or two subjects to be measured"))
    return kinds[0]


def _is_file(given: str) -> bool:
    path = Path(given)
    if path.suffix in (".jsonl", ".json"):
        if not path.exists():
            raise InputError(Fault(f"no file `{printable(given, limit=0)}`", help="`metablocks bench` writes one"))
        return True
    return path.exists() and not path.is_dir() and path.suffix not in SUBJECTS


def _refuse_options(context: typer.Context) -> None:
    """An option that would have no effect is no option: the user thinks that it has one."""
    names = {"how": "compile"}
    # by its name: the enumeration moves between versions of what typer is made of
    sources = {key: context.get_parameter_source(key) for key in MEASURED}
    given = [f"--{names.get(key, key)}" for key, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given:
        wrong = f"{listed(given)}: these results are measured already"
        raise InputError(Fault(wrong, help="options of a measurement are for two subjects"))


def _read(given: str) -> Sequence[Record]:
    from metablocks.bench import store

    contents = store.read(Path(given))
    if not contents.records:
        raise StoreError(
            Fault(f"`{printable(given, limit=0)}` holds no results", help="`metablocks bench` writes some")
        )
    for warning in contents.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return contents.records


def _measured(a: str, b: str, given: Given, device: str, out: Path) -> Sides:
    from metablocks.cli.bench import measure_pair

    records = measure_pair(a, b, given, device, out)
    others = [record for record in records if record.role == "other"]
    return [record for record in records if record.role != "other"], others


def _end(compared: Compared, percent: float | None) -> None:
    """The exit code. A gate that could not judge anything, or that lost what it had to judge, does not let pass."""
    if percent is not None:
        ratios = [row.comparison.ratio for row in compared.rows if row.comparison and row.verdict == "worse"]
        if any(ratio < 1 - percent / 100 for ratio in ratios):
            raise typer.Exit(SLOWER)
        if not any(row.decided for row in compared.rows):
            print("error: nothing could be compared, so nothing is known to be as fast", file=sys.stderr)
            raise typer.Exit(FAILED)
        if any(one.regressed for one in compared.lost):
            print("error: B could not measure what A could", file=sys.stderr)
            raise typer.Exit(SOME_FAILED)


def _print(compared: Compared, a: str, b: str) -> None:
    from rich.console import Console

    from metablocks.bench.compare_table import report

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, 100)
    report(compared, (a, b), console)
