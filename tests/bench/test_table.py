"""The table: every figure at every width, nothing from outside read as markup."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from metablocks.bench.record import Record
from metablocks.bench.table import report

from .conftest import figures, process

WIDE_TABLE = """\
                         images/s    95 %  latency  90 %  memory  compile  cached   params    MACs
network  compile  batch                         ms    ms     MiB        s       s
──────────────────────────────────────────────────────────────────────────────────────────────────
swin_t   none         2     14.30  ±2.0 %     81.2  89.3     250                   28.29 M  4.49 G
         block        2     17.20  ±2.0 %     64.9  71.4     250     40.2     3.1

ratio     swin_t, block: 1.203 (1.199 to 1.206) times the images/s of none: faster; one image 1.25
          times as fast
images/s  median over 3 processes of 5 rounds, and half its 95 % interval
latency   of one image: median and 90th percentile
memory    weights + growth
compile   of the first call: with an empty cache, and with the cache of an earlier process
MACs      of products
device    cpu (a processor), infer, float32, 2 threads, torch 2.13.0, random weights
saved     2 records appended to results.jsonl"""


def printed(records: list[Record], width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    report(records, console, "2 records appended to results.jsonl")
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


@pytest.fixture
def pair(record: Record) -> list[Record]:
    run: dict[str, Any] = {"name": "swin_t", "run": "a run", "pair": "a pair"}
    compiled = replace(figures(), compile_cold_s=40.2, compile_warm_s=3.1)
    slower = tuple(process(speed) for speed in (14.2, 14.3, 14.4))
    eager = replace(record, **run, role="base", figures=figures(14.3, 0.0812), processes=slower)
    return [eager, replace(record, **run, role="other", compile="block", figures=compiled)]


def test_the_table_at_100_columns_is_this(pair: list[Record]) -> None:
    assert printed(pair, 100) == WIDE_TABLE


def test_the_table_at_80_columns_has_the_costs_below_it(pair: list[Record]) -> None:
    text = printed(pair, 80)
    assert "costs     swin_t: 28.29 M params, 4.49 G MACs\n" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("width", [1, 20, 60, 80, 100, 200])
def test_no_figure_is_cut_at_any_width(pair: list[Record], width: int) -> None:
    text = printed(pair, width)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for figure in ("14.30", "17.20", "±2.0 %", "81.2", "64.9", "250", "40.2"):
        assert figure in text


def test_what_puts_times_in_doubt_is_marked_in_their_row(pair: list[Record]) -> None:
    text = printed([replace(pair[0], verdict="unstable"), replace(pair[1], verdict="invalid")], 100)
    assert re.search(r"14\.30 +\? ", text)
    assert re.search(r"17\.20 +! ", text)
    assert "?" not in printed(pair, 100)


def test_a_step_shows_its_parts(pair: list[Record]) -> None:
    parted = replace(
        figures(), latency_p50_s=None, latency_p90_s=None, forward_s=0.1, backward_s=0.25, optimiser_s=0.01
    )
    text = printed([replace(pair[0], mode="train", figures=parted)], 100)
    assert "forward" in text
    assert "latency" not in text
    for figure in ("100", "250", "10"):
        assert figure in text


def test_a_case_of_one_process_shows_no_interval(pair: list[Record]) -> None:
    single = replace(figures(), images_per_s_low=None, images_per_s_high=None)
    assert "±" not in printed([replace(pair[0], figures=single, processes=pair[0].processes[:1])], 100)


@pytest.mark.parametrize(
    ("key", "values"), [("batch", (2, 64)), ("mode", ("infer", "train")), ("image", ((32, 32), (32, 64)))]
)
def test_what_differs_between_rows_is_a_column(pair: list[Record], key: str, values: tuple[Any, Any]) -> None:
    text = printed([replace(pair[0], digest=str(value), **{key: value}) for value in values], 120)
    assert key in text.splitlines()[1].split()
    assert sum(line.startswith(("swin_t", "       ")) and ".30" in line for line in text.splitlines()) == 2


def test_a_base_of_several_pairs_is_one_row_and_several_ratios(pair: list[Record]) -> None:
    again = [replace(pair[0], pair="another"), replace(pair[1], compile="model", pair="another")]
    text = printed([*pair, *again], 100)
    assert text.count("none ") >= 1
    assert text.count("14.30") == 1
    assert text.count("ratio  ") == 2


def test_a_terminal_without_unicode_is_served_too(pair: list[Record]) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    report(pair, Console(file=file, width=100, highlight=False, markup=False, emoji=False), "saved")
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    assert re.search(rb"14\.30 *\| *2\.0 % *\|", file.buffer.getvalue())


def test_a_failed_row_says_so_and_why(pair: list[Record]) -> None:
    lost = replace(pair[1], status="failed", figures=None, failure="killed", reason="the worker was killed by SIGKILL")
    text = printed([pair[0], lost], 100)
    assert "failed    swin_t, block: the worker was killed by SIGKILL" in text
    assert "ratio" not in text


def test_what_is_not_known_is_left_empty_and_never_zero(pair: list[Record]) -> None:
    blank = replace(figures(), peak_memory_bytes=None, peak_memory_method=None)
    unknown = replace(pair[0], macs=None, flops=None, params=None, convention=None, figures=blank)
    text = printed([unknown], 120)
    assert "memory" not in text
    assert "MACs" not in text.splitlines()[-2]
    assert " 0" not in text.splitlines()[3]


def test_names_from_outside_are_shown_as_they_are(pair: list[Record]) -> None:
    text = printed([replace(pair[0], name="[red]\x1b[31m:boom:[/x]", reason="[/bold]")], 120)
    assert "\x1b" not in text
    assert "[red]\\x1b[31m:boom:" in text


def test_failures_alone_make_a_table(pair: list[Record]) -> None:
    lost = replace(pair[0], status="failed", figures=None, failure="crash", reason="gone", environment={})
    assert "gone" in printed([lost], 80)
