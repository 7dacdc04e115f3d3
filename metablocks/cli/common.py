"""What commands share: options, tables, progress, JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from metablocks.plan import Plan
    from metablocks.spec import Spec

SpecName = Annotated[str, typer.Argument(metavar="SPEC", help="a path, or the name of a shipped spec")]
Sets = Annotated[
    list[str], typer.Option("--set", metavar="K=V", help="edit the spec: stages.2.mixer=pooling (repeatable)")
]
Folders = Annotated[list[Path], typer.Option("--mixers", metavar="DIR", help="folder of mixer files (repeatable)")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def planned(source: str, sets: Sequence[str], folders: Sequence[Path]) -> tuple[Spec, Plan]:
    """The spec and the plan that the arguments of a command name."""
    # not through the facade: it brings in the nets, the weights and the bench as well
    from metablocks.costs import count
    from metablocks.plan import plan
    from metablocks.spec import read

    load_mixers(folders)
    checked = read(source, sets)
    return checked, replace(plan(checked), counter=count)


def load_mixers(folders: Sequence[Path]) -> None:
    if folders:
        from metablocks.mixers import add_folder

        for folder in folders:
            add_folder(folder)


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, allow_nan=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], align: str, last: bool = False) -> None:
    """Rows under headings, each column flush `l`eft or `r`ight; `last` rules off the last row."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, align, strict=True)
        ).rstrip()
        for row in (columns, *rows)
    ]
    rule = "-" * max(map(len, lines))
    lines.insert(1, rule)
    if last:
        lines.insert(-1, rule)
    print("\n".join(lines))


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Says on stderr what is going on: a line that vanishes on a terminal, else one line when it is over."""
    start = time.monotonic()
    if not sys.stderr.isatty():
        yield
        if time.monotonic() - start > 2:
            print(f"{what}: {time.monotonic() - start:.1f} s", file=sys.stderr)
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


@contextmanager
def following(what: str) -> Iterator[Callable[[str], None]]:
    """Says on stderr what is measured: one line that follows on a terminal, else one plain line."""
    if not sys.stderr.isatty():
        print(what, file=sys.stderr, flush=True)
        yield lambda phase: None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.text import Text

    from metablocks.core.text import printable

    with Console(stderr=True).status(Text(what)) as status:
        yield lambda phase: status.update(Text(f"{what}: {printable(phase)}"))
