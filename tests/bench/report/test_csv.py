"""CSV: timm's headings and units, numbers that stay numbers, cells that no spreadsheet runs."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from metablocks.bench.record import Record
from metablocks.bench.report.csv import csv_text

from .samples import HOSTILE, failed, figures, record

# the headings of timm's files of results for inference and for training
INFER = (
    "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count,infer_gmacs,infer_macts"
)
TRAIN = "model,train_samples_per_sec,train_step_time,train_batch_size,train_img_size,param_count"


def read(*records: Record) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(records)), strict=True))


def test_every_heading_of_timm_is_there_and_comes_first() -> None:
    heads = csv_text([]).splitlines()[0].split(",")
    theirs = {*INFER.split(","), *TRAIN.split(",")}
    assert heads[0] == "model"
    assert set(heads[: len(theirs)]) == theirs
    assert len(set(heads)) == len(heads)


def test_inference_is_told_in_the_units_of_timm() -> None:
    (row,) = read(record("vit_s16", 16.0, image=(224, 192)))
    assert row["model"] == "vit_s16"
    assert float(row["infer_samples_per_sec"]) == 16.0
    assert float(row["infer_step_time"]) == 500.0  # ms of a batch of 8
    assert (row["infer_batch_size"], row["infer_img_size"]) == ("8", "192")
    assert float(row["infer_gmacs"]) == 4.61
    assert float(row["infer_macts"]) == pytest.approx(13.83)
    assert float(row["param_count"]) == 22.1
    assert row["train_samples_per_sec"] == row["train_step_time"] == ""


@pytest.mark.parametrize("mode", ["train", "pretrain"])
def test_a_step_that_trains_is_under_the_headings_of_training(mode: str) -> None:
    (row,) = read(record("vit_s16", 16.0, mode=mode))
    assert float(row["train_samples_per_sec"]) == 16.0
    assert float(row["train_step_time"]) == 500.0
    assert (row["train_batch_size"], row["train_img_size"]) == ("8", "224")
    assert row["infer_samples_per_sec"] == row["infer_gmacs"] == ""
    assert row["mode"] == mode


def test_a_network_of_timm_has_its_own_name() -> None:
    (row,) = read(record("timm:swin_tiny_patch4_window7_224"))
    assert row["model"] == "swin_tiny_patch4_window7_224"
    assert (row["kind"], row["name"]) == ("timm", "timm:swin_tiny_patch4_window7_224")


def test_counts_are_whole_numbers_and_times_are_exact() -> None:
    (row,) = read(record(figures=figures(1 / 3)))
    assert row["macs"] == "4490000000"
    assert float(row["images_per_s"]) == 1 / 3
    assert row["rounds"] == "30"


def test_a_failed_row_has_a_reason_and_empty_cells() -> None:
    (row,) = read(failed(reason="out of memory"))
    assert (row["status"], row["failure"], row["reason"]) == ("failed", "crash", "out of memory")
    told = (
        "infer_samples_per_sec",
        "infer_step_time",
        "images_per_s",
        "peak_memory_bytes",
        "macs",
        "verdict",
        "rounds",
    )
    assert [row[name] for name in told] == [""] * len(told)
    assert row["infer_batch_size"] == "8"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(start: str) -> None:
    (row,) = read(record(f"{start}1+1", warnings=(f"{start}cmd",)))
    assert row["model"].startswith("'")
    assert row["name"].startswith("'")
    assert row["warnings"].startswith("'")


def test_a_number_below_zero_stays_a_number() -> None:
    (row,) = read(record(figures=replace(figures(), predicted_peak_memory_error=-0.031)))
    assert row["predicted_peak_memory_error"] == "-0.031"


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_stays_in_its_cell(text: str) -> None:
    made = csv_text([record(text, warnings=(text, text)), record()])
    assert len(made.splitlines()) == 3
    assert len(list(csv.reader(io.StringIO(made), strict=True))[1]) == len(made.splitlines()[0].split(","))
    assert not set(made) & set("\x1b\x07\u202e")
