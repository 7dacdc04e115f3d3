"""The tables of parts: every figure at every width, absent values empty, nothing from outside read as markup."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from metablocks.bench.case import Case
from metablocks.bench.parts_table import by_what, report_parts
from metablocks.bench.record import Record, bare
from metablocks.bench.subject import Subject


def row(part: str, what: str, name: str, milliseconds: float, **more: Any) -> dict[str, Any]:
    known = {"calls": 2, "macs": 0, "bytes": 3 << 20, "intensity_macs_per_byte": 0.0, "share_of_peak": 0.25}
    timed = {"seconds": milliseconds / 1e3, "share": milliseconds / 100}
    return {"part": part, "what": what, "name": name} | known | timed | more


PRODUCTS = {"macs": 3 << 30, "intensity_macs_per_byte": 1024.0, "share_of_peak": 0.75}
ROWS = (
    row("stages.0", "norm", "layer_norm", 5.5),
    row("stages.0", "mixer", "window_attention", 30.0, **PRODUCTS),
    row("stages.0", "mlp", "", 40.0, **PRODUCTS),
    row("stages.1.downsample", "downsample", "patch_merging", 4.5, **PRODUCTS),
    row("stages.1", "mixer", "window_attention", 12.0, **PRODUCTS | {"share_of_peak": 0.25}),
    row("other", "other", "", 8.0, bytes=None, intensity_macs_per_byte=None, share_of_peak=None)
    | {"plain_call_s": 0.098, "overhead_share": 0.021, "timed_calls": 40},
)
TABLES = """\
where the 100 ms of a call go: swin_t, batch 2, float32, eager

                                time share              MACs least  MACs of the
part     what             calls   ms                           MiB /byte   roof
───────────────────────────────────────────────────────────────────────────────
stages.0 layer_norm           2  5.5 5.5 % █▍              0   3.0     0   25 %
         window_attention     2   30  30 % ███████▌   3.22 G   3.0 1,024   75 %
         mlp                  2   40  40 % ██████████ 3.22 G   3.0 1,024   75 %
stages.1 patch_merging        2  4.5 4.5 % █▏         3.22 G   3.0 1,024   75 %
         window_attention     2   12  12 % ███        3.22 G   3.0 1,024   25 %
other                         2    8 8.0 % ██              0

                 time share                            MACs least  MACs of the
what       calls   ms                                         MiB /byte   roof
──────────────────────────────────────────────────────────────────────────────
mixer          4   42  42 % ████████████████████████ 6.44 G   6.0 1,024   61 %
mlp            2   40  40 % ██████████████████████▉  3.22 G   3.0 1,024   75 %
other          2    8 8.0 % ████▋                         0
norm           2  5.5 5.5 % ███▏                          0   3.0     0   25 %
downsample     2  4.5 4.5 % ██▋                      3.22 G   3.0 1,024   75 %

time    mean of the middle half of 40 calls; the clock inside adds 2.1 %
least   bytes that have to move: inputs and parameters read once, outputs
        written once
roof    least time over time; over 100 % where data stays in a cache
peak    200.00 GFLOP/s in float32 products; 30.00 GB/s copied; best rounds,
        measured on this device
device  cpu (a processor), threads: 2"""


@pytest.fixture
def measured() -> Record:
    case = Case(Subject("spec", "swin_t", "swin_t", "{}"), batch=2)
    place = {"device_name": "a processor", "threads": 2}
    roof = {"peak_flops_per_s_float32": 2e11, "peak_copy_bytes_per_s": 3e10}
    return replace(bare(case, "2026-01-01T00:00:00+00:00"), status="ok", parts=ROWS, environment=place, peaks=roof)


def printed(record: Record, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    report_parts(record, console)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def test_the_tables_at_80_columns_are_these(measured: Record) -> None:
    assert printed(measured, 80) == TABLES


@pytest.mark.parametrize("width", [1, 20, 60, 80, 100, 120, 200])
def test_no_figure_is_cut_at_any_width(measured: Record, width: int) -> None:
    text = printed(measured, width)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for figure in ("3.22 G", "5.5 %", "25 %", "6.44 G"):
        assert figure in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_stay_within_the_terminal(measured: Record, width: int) -> None:
    assert max(map(len, printed(measured, width).splitlines())) <= width


def test_what_is_absent_is_neither_zero_nor_added_up(measured: Record) -> None:
    other = next(line for line in printed(measured, 80).splitlines() if line.startswith("other "))
    assert "%" not in other.split("█")[-1]
    totals = {added["what"]: added for added in by_what(ROWS)}
    assert totals["other"]["bytes"] is None
    assert by_what([*ROWS, row("stages.1", "mlp", "", 1.0, macs=None)])[1]["macs"] is None


def test_totals_add_times_work_and_least_times(measured: Record) -> None:
    totals = {added["what"]: added for added in by_what(measured.parts)}
    mixer = totals["mixer"]
    assert (mixer["calls"], mixer["macs"], mixer["bytes"]) == (4, 6 << 30, 6 << 20)
    assert mixer["seconds"] == pytest.approx(0.042)
    assert mixer["share_of_peak"] == pytest.approx((0.75 * 0.03 + 0.25 * 0.012) / 0.042)
    assert sum(added["share"] for added in totals.values()) == pytest.approx(1)


def test_a_record_without_parts_prints_nothing(measured: Record) -> None:
    assert printed(replace(measured, parts=()), 80) == ""


def test_conditions_say_what_was_not_seen(measured: Record) -> None:
    blocks = replace(
        measured, compile="block", mode="train", parts=(row("stages.0", "block", "pooling", 9.0), ROWS[-1])
    )
    text = printed(blocks, 120)
    assert "blocks compiled, forward pass alone" in text
    assert "--compile none shows what is inside" in text
    assert "only networks of specs are seen inside" in printed(replace(blocks, kind="timm"), 120)
    lost = {**ROWS[-1], "overhead_share": None}
    assert "adds is lost in their spread" in printed(replace(measured, parts=(*ROWS[:-1], lost)), 120)
    whole = row("network", "network", "", 9.0, plain_call_s=0.009, overhead_share=None, timed_calls=7)
    text = printed(replace(measured, compile="model", parts=(whole,)), 120)
    assert "not seen, it is one graph" in text
    assert "of 7 calls\n" in text


def test_without_a_roof_there_is_no_line_about_it(measured: Record) -> None:
    assert "\npeak" not in printed(replace(measured, peaks={}), 80)


def test_text_from_outside_is_shown_as_text(measured: Record) -> None:
    hostile = "[red]\x1b[31m\N{RIGHT-TO-LEFT OVERRIDE}"
    rows = (row(hostile, hostile, hostile, 50.0), ROWS[-1])
    text = printed(replace(measured, name=hostile, parts=rows), 200)
    assert "\x1b" not in text
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in text
    assert "[red]" in text


def test_a_terminal_without_unicode_is_served_too(measured: Record) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    report_parts(measured, Console(file=file, width=80, highlight=False, markup=False, emoji=False))
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    assert b"##########" in file.buffer.getvalue()


def test_the_tables_need_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, metablocks.bench.parts_table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
