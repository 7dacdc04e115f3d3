"""Markdown: one table whose cells stay in their cells, and the conditions below it."""

from __future__ import annotations

import pytest

from metablocks.bench.report.markdown import markdown

from .samples import HOSTILE, failed, pair, record, run

EXPECTED = """\
| network | verdict | compile | images/s | 95 % interval (images/s) | latency (ms) | 90 % (ms) | 99 % (ms) \
| memory (MiB) | 1st call (s) | params | MACs |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| swin_t | valid | none | 17.00 | 16.49 to 17.34 | 64.7 | 70.6 | 82.4 | 178 | 2.1 | 28.30 M | 4.49 G |
| swin_t | failed | model |  |  |  |  |  |  |  |  |  |

- **failed**: swin_t, model: the worker was killed by SIGKILL
- **rows**: 2: 1 valid and 1 failed
- **in all rows**: mode infer, batch 8, image 224, dtype float32
- **device**: cpu (AMD EPYC), 2 threads, torch 2.13.0+cpu, Python 3.11.7, metablocks 0.1.0
- **measured**: every row by 3 processes of its own, with 3 s of timed rounds in each, after a warm-up. \
Weights and images are random numbers, never zeros
- **images/s**: the median over processes of the median of their rounds. The interval bounds it with 95 %; \
what is repeated is the process, since rounds within one are not independent
- **latency**: of a single image: median and percentiles
- **1st call**: compiles; the compiler's cache was cold
- **memory**: peak of the worker over its baseline
- **MACs**: of matrix products, convolutions and attention for one image; FLOPs = 2 x MACs
"""


def test_two_rows_are_this() -> None:
    assert markdown([record("swin_t", 17.0), failed(compile="model")]) == EXPECTED


def test_pairs_are_told_with_their_intervals() -> None:
    text = markdown(pair(0, record("swin_t", 17.0), record("swin_t", 22.0, compile="block")))
    (line,) = [line for line in text.splitlines() if line.startswith("- **ratio**")]
    assert "swin_t, block is 1.2" in line
    assert " to " in line
    assert line.endswith(": better")


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_adds_no_cell_line_or_markup(text: str) -> None:
    made = markdown([record(text, warnings=(text,)), failed("x", text)])
    table = [line for line in made.splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "<" not in made.replace("\\<", "")
    assert not set(made) & set("\x1b\x07\u202e")


def test_a_name_with_underscores_is_legible_in_the_raw_text() -> None:
    assert "| timm:swin_tiny_patch4_window7_224 |" in markdown(run())
