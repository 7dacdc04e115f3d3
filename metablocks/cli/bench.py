"""`bench`: networks side by side, each case in a worker of its own, one table and one record a case."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metablocks.cli.common import Folders, Json, Sets, print_json
from metablocks.core.errors import MissingError
from metablocks.core.text import printable

if TYPE_CHECKING:
    from metablocks.bench.case import Case
    from metablocks.bench.record import Record

Specs = Annotated[
    list[str] | None, typer.Argument(metavar="[SPEC]...", help="paths or shipped names; none: the headline")
]
Batch = Annotated[int | None, typer.Option("--batch", metavar="N", help="images in a batch [default: 8, on CUDA 64]")]
Dtype = Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16, float64")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1")]
How = Annotated[list[str], typer.Option("--compile", help="none, block, model: one, or several with commas")]
Seconds = Annotated[float, typer.Option("--seconds", metavar="S", help="timed for throughput, and again for latency")]
Limit = Annotated[float, typer.Option("--limit", metavar="S", help="after which a case is stopped and marked failed")]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="results file, appended to")]

FAILED, SOME_FAILED, INTERRUPTED = 1, 4, 130


def bench(  # noqa: PLR0913
    specs: Specs = None,
    batch: Batch = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    how: How = ["none,block"],  # noqa: B006
    seconds: Seconds = 3.0,
    limit: Limit = 900.0,
    out: Out = Path("results.jsonl"),
    sets: Sets = [],  # noqa: B006
    folders: Folders = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Measure networks side by side, eager and compiled; append the records to a file."""
    from metablocks.bench import store
    from metablocks.bench.subject import subject
    from metablocks.bench.suite import Conditions, cases, headline

    store.check(out)
    compiles = tuple(name.strip() for names in how for name in names.split(","))
    conditions = Conditions("infer", batch, device, dtype, compiles, seconds, limit)
    subjects = [subject(source, sets, folders) for source in specs or headline(device)]
    records: list[Record] = []
    try:
        _measure(cases(subjects, conditions), out, records)
    except KeyboardInterrupt:
        print(f"stopped; {_saved(records, out)}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if records:
            _print(records, out, as_json)
    _end(records)


def _measure(cases: Sequence[Case], out: Path, records: list[Record]) -> None:
    """Runs the cases one after the other; each record is on the disk before the next case starts."""
    from metablocks.bench import store
    from metablocks.bench.run import run

    for number, case in enumerate(cases, 1):
        with _progress(f"{number} of {len(cases)}: {printable(case.subject.name)}, compile {case.compile}") as watch:
            record = run(case, watch)
        store.append(out, record)
        records.append(record)


def _print(records: Sequence[Record], out: Path, as_json: bool) -> None:
    from metablocks.bench.record import to_data

    if as_json:
        print_json([to_data(record) for record in records])
        return
    from rich.console import Console

    from metablocks.bench.table import report

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, 100)
    report(records, _saved(records, out), console)


def _saved(records: Sequence[Record], out: Path) -> str:
    many = "1 record" if len(records) == 1 else f"{len(records)} records"
    return f"{many} appended to {printable(str(out), limit=0)}"


def _end(records: Sequence[Record]) -> None:
    """The exit code: 4 where some failed, 1 where all did, 6 where all for want of something."""
    bad = [record for record in records if record.status != "ok"]
    if not bad:
        return
    if len(bad) < len(records):
        raise typer.Exit(SOME_FAILED)
    raise typer.Exit(MissingError.exit_code if {record.failure for record in bad} == {"missing"} else FAILED)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[str], None]]:
    """Says on stderr what is measured: one line that follows on a terminal, else one plain line a case."""
    if not sys.stderr.isatty():
        print(what, file=sys.stderr, flush=True)
        yield lambda phase: None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(what)) as status:
        yield lambda phase: status.update(Text(f"{what}: {printable(phase)}"))
