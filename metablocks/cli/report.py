"""`report`: records as a table, a page of HTML, CSV or Markdown. Never imports torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metablocks.cli.common import Json, print_json
from metablocks.core.errors import Fault, InputError
from metablocks.core.text import listed, printable

if TYPE_CHECKING:
    from metablocks.bench.record import Record

Results = Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="files that `metablocks bench` wrote")]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="OUT", help="write a page with table and plots; - for stdout")
]
Csv = Annotated[
    Path | None, typer.Option("--csv", metavar="OUT", help="write CSV with timm's columns first; - for stdout")
]
Markdown = Annotated[Path | None, typer.Option("--markdown", metavar="OUT", help="write Markdown; - for stdout")]

STDOUT = Path("-")
SHOWN = 200  # rows in a terminal


def report(
    results: Results, html: Html = None, csv: Csv = None, markdown: Markdown = None, as_json: Json = False
) -> None:
    """Show the records of results files: a table, or an HTML page, CSV or Markdown."""
    wanted = {kind: out for kind, out in (("html", html), ("csv", csv), ("markdown", markdown)) if out is not None}
    _check(results, wanted, as_json)
    records = _read(results)
    title = f"metablocks bench: {listed(printable(path.name, 40) for path in results[:3])}"
    for kind, out in wanted.items():
        _export(kind, out, records, title)
    if as_json:
        from metablocks.bench.record import to_data

        print_json([to_data(record) for record in records])
    elif not wanted:
        _print(records)


def _check(results: Sequence[Path], wanted: dict[str, Path], as_json: bool) -> None:
    """Everything that could go wrong with the places to write to, before a long file is read."""
    from metablocks.bench.report import writing

    if [*wanted.values()].count(STDOUT) + as_json > 1:
        raise InputError(Fault("only one thing can go to stdout", help="name files for the others"))
    files = [out for out in wanted.values() if out != STDOUT]
    taken = {path.resolve() for path in results}
    for out in files:
        if out.resolve() in taken:
            wrong = f"`{printable(str(out), limit=0)}` is taken"
            raise InputError(Fault(wrong, help="name another file than the results, and one for each export"))
        taken.add(out.resolve())
    for out in files:
        writing.check(out)


def _read(results: Sequence[Path]) -> list[Record]:
    """The records of all files in the order of the arguments; what was skipped is told on stderr."""
    from metablocks.bench import store

    records: list[Record] = []
    for path in results:
        found = store.read(path)
        records.extend(found.records)
        for warning in found.warnings:
            print(f"warning: {warning}", file=sys.stderr)
    if not records:
        names = listed(printable(str(path), limit=0) for path in results)
        raise InputError(Fault(f"no records in {names}", help="metablocks bench --out FILE measures and appends some"))
    return records


def _export(kind: str, out: Path, records: Sequence[Record], title: str) -> None:
    from metablocks.bench.report import writing
    from metablocks.bench.report.csv import csv_text
    from metablocks.bench.report.markdown import markdown
    from metablocks.bench.report.page import page

    made = {
        "html": lambda: page(records, title),
        "csv": lambda: csv_text(records),
        "markdown": lambda: markdown(records),
    }
    text = made[kind]()
    if out == STDOUT:
        sys.stdout.write(text)
        return
    writing.write(out, text)
    print(f"{printable(str(out), limit=0)} written", file=sys.stderr)


def _print(records: Sequence[Record]) -> None:
    from rich.console import Console

    from metablocks.bench.table import report

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, 100)
    report(records[-SHOWN:], console)
    if len(records) > SHOWN:
        print(
            f"the newest {SHOWN} of {len(records):,} records; --html, --csv and --markdown take more", file=sys.stderr
        )
