"""`compare` as a user meets it: files and subjects, the table, exit codes, and nothing slow imported for files."""

from __future__ import annotations

import io
import json
import math
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from metablocks.bench import store
from metablocks.bench.case import Case
from metablocks.bench.compare import compare as compare_records
from metablocks.bench.compare_table import report
from metablocks.bench.record import Figures, Process, Record, bare
from metablocks.bench.subject import Subject
from metablocks.cli.choices import Given
from metablocks.cli.compare import compare
from metablocks.core.errors import MetablocksError

Run = Callable[..., tuple[int, str, str]]
BENCH = sys.modules["metablocks.cli.bench"]  # as an attribute of the package, the name is that of the command


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run() -> Run:
    """Runs the command; returns its exit code, stdout and stderr. Errors of ours end as `metablocks` ends them."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(compare)

    def call(*arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, arguments)
        if isinstance(done.exception, MetablocksError):
            return done.exception.exit_code, done.stdout, str(done.exception)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return call


def measured(name: str, rate: float, seed: int = 0, **more: Any) -> Record:
    """A record of three processes at about `rate` images a second."""
    draw = random.Random(f"{name} {seed}")
    spent = [
        tuple(4 / rate * math.exp(draw.gauss(0, 0.002)) for _ in range(9)) for _ in range(more.pop("processes", 3))
    ]
    process = Process(
        rounds_s=(),
        calls_per_round=1,
        wall_s=1.0,
        steady=True,
        warm_up_calls=1,
        warm_up_s=1.0,
        build_s=1.0,
        first_call_s=1.0,
    )
    figures = Figures(rate, rate, rate, latency_p50_s=1 / rate, peak_memory_bytes=int(1e10 / rate))
    case = Case(Subject("spec", name, name, json.dumps({"image": {"size": [224, 224]}})), batch=4)
    found = replace(bare(case, f"time {seed}"), status="ok", failure=None, reason=None, verdict="valid")
    processes = tuple(replace(process, rounds_s=one) for one in spent)
    place = {"device_name": "a processor", "torch": "2.13.0", "threads": 2}
    return replace(found, **{"figures": figures, "processes": processes, "environment": place, **more})


def write(path: str, *records: Record) -> None:
    for record in records:
        store.append(Path(path), record)


def lost(name: str) -> Record:
    return replace(
        measured(name, 1.0), status="failed", failure="killed", reason="was killed", figures=None, processes=()
    )


@pytest.fixture
def files() -> None:
    """Two files: a faster, a slower and an equal network, one that failed, one on either side alone."""
    fast, slow, same = "swin_t", "vit_s16", "mixer_s16"
    write("a.jsonl", *(measured(name, 10.0) for name in (fast, slow, same, "dies", "old")))
    rates = {fast: 11.0, slow: 9.0, same: 10.0, "new": 10.0}
    write("b.jsonl", *(measured(name, rate, 1) for name, rate in rates.items()), lost("dies"))


def printed(width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    sides = [store.read(Path(name)).records for name in ("a.jsonl", "b.jsonl")]
    report(compare_records(*sides), ("a.jsonl", "b.jsonl"), console)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


@pytest.mark.usefixtures("files")
def test_every_row_has_ratio_interval_and_verdict() -> None:
    lines = printed(80).splitlines()[3:6]
    expected = {"swin_t": ("11.00", "better"), "vit_s16": ("9.00", "worse"), "mixer_s16": ("10.00", "cannot tell")}
    for line, (name, (rate, verdict)) in zip(lines, expected.items(), strict=True):
        ratio = r"\d\.\d{3}"
        assert re.fullmatch(rf"{name} +10\.00 +{rate} +{ratio} +{ratio} to {ratio} +{verdict}.*", line)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("width", [20, 80, 120])
def test_nothing_is_cut_away_at_any_width(width: int) -> None:
    text = printed(width)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert width < 80 or max(map(len, text.splitlines())) <= width
    words = "".join(text.split())
    for told in (
        "failed in B dies, infer,",
        "only in A old,",
        "only in B new,",
        "-9.1 %",
        "at different times",
        "latency",
    ):
        assert told.replace(" ", "") in words


@pytest.mark.usefixtures("files")
def test_names_from_outside_are_shown_as_they_are() -> None:
    for path in ("a.jsonl", "b.jsonl"):
        write(path, measured("[red]\x1b[31m", 9.0))
    assert "\x1b" not in printed(80)
    assert "[red]\\x1b[31m" in printed(80)


@pytest.mark.usefixtures("files")
def test_colours_are_for_terminals_alone(run: Run) -> None:
    code, out, err = run("a.jsonl", "b.jsonl")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard", no_color=False)
    row = compare_records([measured("net", 10.0)], [measured("net", 9.0, 1)])
    report(row, ("a", "b"), console)
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[31mworse" in console.file.getvalue()


@pytest.mark.usefixtures("files")
def test_as_json_everything_is_there_and_nothing_else_on_stdout(run: Run) -> None:
    code, out, _ = run("a.jsonl", "b.jsonl", "--json")
    data = json.loads(out)
    assert (code, [row["verdict"] for row in data["rows"]]) == (0, ["better", "worse", "cannot tell"])
    assert [one["reason"] for one in data["failed"]] == ["was killed"]
    assert [[one["name"] for one in data[key]] for key in ("base_only", "other_only")] == [["old"], ["new"]]


@pytest.mark.parametrize(
    ("rate", "percent", "code"),
    [(9.0, "5", 5), (9.0, "0", 5), (9.0, "20", 0), (11.0, "0", 0), (10.0, "0", 0)],
)
def test_the_gate_closes_where_b_is_slower_by_more(run: Run, rate: float, percent: str, code: int) -> None:
    write("a.jsonl", measured("net", 10.0))
    write("b.jsonl", measured("net", rate, 1))
    assert run("a.jsonl", "b.jsonl", "--fail-if-slower", percent)[0] == code
    assert run("a.jsonl", "b.jsonl")[0] == 0


@pytest.mark.parametrize(
    "other",
    [measured("net", 5.0, 1, processes=1), measured("net", 5.0, mode="train"), lost("net")],
    ids=["no interval", "other conditions", "failed"],
)
def test_a_gate_that_can_compare_nothing_lets_nothing_pass(run: Run, other: Record) -> None:
    write("a.jsonl", measured("net", 10.0))
    write("b.jsonl", other)
    code, out, err = run("a.jsonl", "b.jsonl", "--fail-if-slower", "5")
    assert (code, "nothing could be compared" in err) == (1, True)
    assert out
    assert run("a.jsonl", "b.jsonl")[0] == 0


def test_a_gate_does_not_pass_what_can_no_longer_be_measured(run: Run) -> None:
    write("a.jsonl", measured("net", 10.0), measured("dies", 10.0))
    write("b.jsonl", measured("net", 10.0, 1), lost("dies"))
    assert run("a.jsonl", "b.jsonl", "--fail-if-slower", "5")[0] == 4


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.jsonl", "b.jsonl", "--fail-if-slower", "101"], 2, "from 0 to 100"),
        (["a.jsonl", "b.jsonl", "--fail-if-slower", "-1"], 2, "from 0 to 100"),
        (["a.jsonl", "b.jsonl", "--fail-if-slower", "nan"], 2, "from 0 to 100"),
        (["a.jsonl", "b.jsonl", "--fail-if-slower", "some"], 2, "--fail-if-slower"),
        (["a.jsonl"], 2, "Missing argument"),
        (["a.jsonl", "missing.jsonl"], 2, "no file `missing.jsonl`"),
        (["a.jsonl", "swin_t"], 2, "`swin_t` is not"),
        (["a.jsonl", "b.jsonl", "--device", "cuda", "--compile", "block"], 2, "--device and --compile"),
        (["a.jsonl", "notes.txt"], 3, "`notes.txt` holds no results"),
        (["a.jsonl", "newer.jsonl"], 3, "newer metablocks"),
    ],
)
def test_bad_arguments_and_files_are_told(run: Run, arguments: list[str], code: int, words: str) -> None:
    Path("notes.txt").write_text("buy milk\n")
    Path("newer.jsonl").write_text('{"schema": 99}\n')
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert words in err


@pytest.mark.usefixtures("files")
def test_a_torn_line_is_skipped_with_a_warning(run: Run) -> None:
    with open("b.jsonl", "a") as file:
        file.write('{"schema": 2, "sta')
    code, _, err = run("a.jsonl", "b.jsonl")
    assert (code, "torn" in err) == (0, True)


def test_two_subjects_are_measured_in_turns_and_compared(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def measure_pair(*arguments: Any) -> list[Record]:
        asked.append(arguments)
        pair = {"run": "r", "pair": "1"}
        return [
            measured("swin_t", 10.0, role="base", **pair),
            measured("timm:swin_tiny", 9.0, 1, kind="timm", role="other", **pair),
        ]

    monkeypatch.setattr(BENCH, "measure_pair", measure_pair)
    options = ["--device", "cuda", "--batch", "4", "--processes", "5", "--compile", "block", "--fail-if-slower", "5"]
    code, out, _ = run("swin_t", "timm:swin_tiny", *options)
    given = Given(batch="4", how="block", processes=5)
    assert asked == [("swin_t", "timm:swin_tiny", given, "cuda", Path("results.jsonl"))]
    assert (code, "in turns, round by round" in out, "worse" in out) == (5, True, True)


def test_subjects_that_could_not_be_measured_fail_the_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BENCH, "measure_pair", lambda *_: [lost("a"), replace(lost("b"), role="other")])
    code, out, _ = run("swin_t", "vit_s16")
    assert (code, "was killed" in out) == (1, True)


@pytest.mark.usefixtures("files")
def test_comparing_files_imports_nothing_slow() -> None:
    code = """
import sys, typer
from metablocks.cli.compare import compare
app = typer.Typer()
app.command()(compare)
try:
    app()
finally:
    print("loaded:", *sorted({"torch", "triton", "numpy"} & set(sys.modules)), file=sys.stderr)
"""
    command = [sys.executable, "-c", code, "a.jsonl", "b.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "loaded:")
