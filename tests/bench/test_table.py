"""The table: every figure at every width, nothing from outside read as markup."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from metablocks.bench.record import Record
from metablocks.bench.table import report

from .conftest import figures

WIDE_TABLE = """\
                         images/s  spread  latency  90 %  memory  1st call   params    MACs   FLOPs
network  compile  batch                         ms    ms     MiB         s
───────────────────────────────────────────────────────────────────────────────────────────────────
swin_t   none         2     14.30   1.3 %     81.2  89.3     250      40.2  28.29 M  4.49 G  8.98 G
         block        2     17.20   1.2 %     64.9  71.4     250      40.2

ratio     swin_t, block: 1.2 times the images/s of none (quartiles 1.17 to 1.23); one image 1.25
          times as fast
images/s  median of 3 rounds; spread: half their interquartile range
latency   of one image: median and 90th percentile
memory    weights + growth
1st call  compiles; the compiler's cache was cold
MACs      of products
device    cpu (a processor), float32, 2 threads, torch 2.13.0, random weights
saved     2 records appended to results.jsonl"""


def printed(records: list[Record], width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    report(records, "2 records appended to results.jsonl", console)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


@pytest.fixture
def pair(record: Record) -> list[Record]:
    compiled = replace(figures(), compile_cache="cold")
    eager = replace(record, name="swin_t", compile="none", figures=figures(14.3, 0.0812))
    return [eager, replace(record, name="swin_t", compile="block", figures=compiled)]


def test_the_table_at_100_columns_is_this(pair: list[Record]) -> None:
    assert printed(pair, 100) == WIDE_TABLE


def test_the_table_at_80_columns_has_the_costs_below_it(pair: list[Record]) -> None:
    text = printed(pair, 80)
    assert "costs     swin_t: 28.29 M params, 4.49 G MACs, 8.98 G FLOPs" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("width", [1, 20, 60, 80, 100, 200])
def test_no_figure_is_cut_at_any_width(pair: list[Record], width: int) -> None:
    text = printed(pair, width)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for figure in ("14.30", "17.20", "81.2", "64.9", "250", "40.2"):
        assert figure in text


def test_where_the_rounds_overlap_no_verdict_is_given(pair: list[Record]) -> None:
    assert "cannot tell them apart" in printed([pair[0], replace(pair[1], figures=figures(14.35))], 200)
    assert "cannot tell" not in printed(pair, 200)


def test_a_terminal_without_unicode_is_served_too(pair: list[Record]) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    report(pair, "saved", Console(file=file, width=100, highlight=False, markup=False, emoji=False))
    file.flush()


def test_a_failed_row_says_so_and_why(pair: list[Record]) -> None:
    lost = replace(pair[1], status="failed", figures=None, failure="killed", reason="the worker was killed by SIGKILL")
    text = printed([pair[0], lost], 100)
    assert "failed    swin_t, block: the worker was killed by SIGKILL" in text
    assert "ratio" not in text


def test_an_unknown_count_is_unknown(pair: list[Record]) -> None:
    unknown = replace(pair[0], macs=None, flops=None, figures=replace(figures(), peak_memory_bytes=None))
    assert printed([unknown], 120).count("unknown") == 3


def test_names_from_outside_are_shown_as_they_are(pair: list[Record]) -> None:
    text = printed([replace(pair[0], name="[red]\x1b[31m:boom:[/x]", reason="[/bold]")], 120)
    assert "\x1b" not in text
    assert "[red]\\x1b[31m:boom:" in text


def test_failures_alone_make_a_table(pair: list[Record]) -> None:
    lost = replace(pair[0], status="failed", figures=None, failure="crash", reason="gone", environment={})
    assert "gone" in printed([lost], 80)
