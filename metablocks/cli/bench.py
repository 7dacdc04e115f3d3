"""`bench`: subjects side by side, each case in workers of its own, one table and one record a case."""

from __future__ import annotations

import signal
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metablocks.cli.choices import MAX, Given, checkpointing, planned_pairs
from metablocks.cli.common import Folders, Json, Sets, following, print_json
from metablocks.cli.traffic import count_traffic, print_traffic
from metablocks.core.errors import MetablocksError, MissingError
from metablocks.core.text import printable

if TYPE_CHECKING:
    from metablocks.bench.case import Case
    from metablocks.bench.record import Record

Subjects = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SUBJECT or SUITE]...",
        help="spec (path or shipped name), timm:NAME, torchvision:NAME, FILE.py:FUNCTION, or a suite; none: headline",
    ),
]
Mode = Annotated[str | None, typer.Option("--mode", help="infer, train, pretrain: one, or several with commas")]
Batch = Annotated[str | None, typer.Option("--batch", metavar="N", help="images in a batch, with commas; or max")]
Image = Annotated[str | None, typer.Option("--image", metavar="N", help="image side in pixels, or HxW; with commas")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16, amp_bfloat16, ...; with commas")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1")]
How = Annotated[str | None, typer.Option("--compile", help="none, block, model: one, or several with commas")]
Kernels = Annotated[str | None, typer.Option("--kernels", help="of specs: fused, reference; default: the device's")]
ChannelsLast = Annotated[bool, typer.Option("--channels-last", help="images (and weights) in channels-last layout")]
Checkpoint = Annotated[
    str | None, typer.Option("--checkpoint", metavar="block|SHARE", help="keep block inputs, or 0.5 of the activations")
]
Seconds = Annotated[float | None, typer.Option("--seconds", metavar="S", help="timed in each process")]
Processes = Annotated[int | None, typer.Option("--processes", metavar="N", help="worker processes of each case")]
Limit = Annotated[float | None, typer.Option("--limit", metavar="S", help="after which a worker is stopped")]
Memory = Annotated[float | None, typer.Option("--memory", metavar="GIB", help="that a worker may take")]
Modules = Annotated[
    list[str], typer.Option("--import", metavar="MODULE", help="that workers import first (repeatable)")
]
PerBlock = Annotated[bool, typer.Option("--per-block", help="also tell where the time goes, or the traffic")]
Traffic = Annotated[bool, typer.Option("--traffic", help="count what moves, and kernels; no GPU is needed")]
Resume = Annotated[bool, typer.Option("--resume", help="skip what the results file has under the same conditions")]
SelfCheck = Annotated[bool, typer.Option("--self-check", help="prove the bench on this machine; measures nothing else")]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="results file, appended to")]

FAILED, SOME_FAILED, INTERRUPTED = 1, 4, 130


def bench(  # noqa: PLR0913
    subjects: Subjects = None,
    mode: Mode = None,
    batch: Batch = None,
    image: Image = None,
    dtype: Dtype = None,
    device: Device = "cpu",
    how: How = None,
    kernels: Kernels = None,
    channels_last: ChannelsLast = False,
    checkpoint: Checkpoint = None,
    seconds: Seconds = None,
    processes: Processes = None,
    limit: Limit = None,
    memory: Memory = None,
    modules: Modules = [],  # noqa: B006
    per_block: PerBlock = False,
    resume: Resume = False,
    self_check: SelfCheck = False,
    traffic: Traffic = False,
    out: Out = Path("results.jsonl"),
    sets: Sets = [],  # noqa: B006
    folders: Folders = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Measure networks side by side, in turns; append the records to a file."""
    from metablocks.bench import store
    from metablocks.bench.resume import remaining

    if self_check:
        _self_check(device, as_json)
        return
    kept = checkpointing(checkpoint)
    given = Given(mode, batch, image, dtype, how, seconds, processes, limit, memory, tuple(modules), kernels)
    if traffic:
        print_traffic(list(count_traffic(subjects or (), given, kept, sets, folders)), as_json, per_block)
        return
    store.check(out)
    switches = {"device": device, "channels_last": channels_last, "checkpoint": kept}
    records: list[Record] = []
    try:
        pairs = planned_pairs(subjects or ["headline"], given, switches, sets, folders)
        if batch == MAX:
            pairs = _fitted(pairs)
        if resume:
            with following("looking at the conditions") as watch:
                pairs = remaining(pairs, store.read(out).records if out.exists() else (), watch)
        measure_all(pairs, out, records, per_block)
    except KeyboardInterrupt:
        _ignore_signals()
        print(f"stopped; {_saved(records, out)}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if records:
            _print(records, out, as_json)
    _end(records)


def measure_all(pairs: Sequence[Sequence[Case]], out: Path, records: list[Record], per_block: bool = False) -> None:
    """Runs the pairs one after the other; the records of each are on the disk before the next one starts."""
    from metablocks.bench import store
    from metablocks.bench.run import run

    run_id = uuid.uuid4().hex[:12]
    for number, cases in enumerate(pairs, 1):
        what = " against ".join(printable(case.label) for case in reversed(cases))
        with following(f"{number} of {len(pairs)}: {what}") as watch:
            found = run(cases, watch, run_id, per_block)
        for record in found:
            store.append(out, record)
        records.extend(found)


def _ignore_signals() -> None:
    """Once workers and folders are cleared away, all that is left to do is to say so."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _fitted(pairs: Sequence[Sequence[Case]]) -> list[tuple[Case, ...]]:
    """Each pair at the largest batch that fits for both; one that fails at any is measured, so that its row says so."""
    from metablocks.bench.fit import fitted

    found = []
    for cases in pairs:
        batches = []
        for case in cases:
            with following(f"the largest batch of {printable(case.label)}") as watch, suppress(MetablocksError):
                batches.append(fitted(case, watch).batch)
        found.append(tuple(replace(case, batch=min(batches, default=1)) for case in cases))
    return found


def measure_pair(base: str, other: str, given: Given, device: str, out: Path) -> list[Record]:
    """Two subjects in turns, for `compare`; their records are in the file as well."""
    from metablocks.bench import store

    store.check(out)
    records: list[Record] = []
    # one by one, so that a subject may also be held against itself
    sides = [planned_pairs([source], given, {"device": device}, (), ()) for source in (base, other)]
    measure_all([(first[-1], second[-1]) for first, second in zip(*sides, strict=False)], out, records)
    return records


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
    report(records, console, _saved(records, out))
    for record in records:
        if record.parts:
            from metablocks.bench.parts_table import report_parts

            report_parts(record, console)


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


def _self_check(device: str, as_json: bool) -> None:
    """Prints what the bench proves of itself here. Exit code 1 where a proof fails."""
    from metablocks.bench.selfcheck import check_all, report_checks

    with following("self-check") as watch:
        proof = check_all(device, watch)
    report_checks(proof, as_json)
    if not proof.passed:
        raise typer.Exit(FAILED)
