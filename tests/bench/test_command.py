"""The command: what it prints where, what it appends, and what it ends with."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metablocks.bench import store
from metablocks.bench.record import Record

from .conftest import FITTING, MIXERS, TINY, Done
from .test_session import AUTOENCODER

Command = Callable[..., Done]

QUICK = ("--batch", "2", "--seconds", "0.05", "--processes", "1", "--import", "quick_peaks")
FAULTY = ("--mixers", str(MIXERS))
OUT = Path("results.jsonl")


def broken(folder: Path, fault: str = "kill") -> str:
    """A spec of a network that misbehaves."""
    path = folder / "broken.yaml"
    path.write_text(TINY.read_text().replace("mixer: pooling", f"mixer: {{faulty: {{fault: {fault}}}}}"))
    return str(path)


def records(path: Path = OUT) -> tuple[Record, ...]:
    found = store.read(path)
    assert found.warnings == ()
    return found.records


def test_eager_and_compiled_are_measured_side_by_side_and_appended(command: Command) -> None:
    done = command("bench", str(TINY), *QUICK)
    assert done.code == 0, done.err
    base, other = records()
    assert [(one.compile, one.status, one.role) for one in (base, other)] == [
        ("none", "ok", "base"),
        ("block", "ok", "other"),
    ]
    assert (base.pair, base.run) == (other.pair, other.run)
    compiled = other.figures
    assert compiled is not None
    assert compiled.compiled_graphs == 1  # one kind of block; stem and head are few calls, on a CPU no graphs
    assert compiled.graph_breaks == 0
    assert compiled.eager_difference is not None
    assert compiled.eager_difference <= 1e-3
    assert other.processes[0].compile_cache == "cold"
    assert "saved     2 records appended to results.jsonl" in done.out
    assert "ratio     tiny, block:" in done.out
    assert done.err.splitlines() == ["1 of 1: tiny, block against tiny, none"]


def test_where_one_case_fails_the_others_are_there_and_the_exit_code_is_4(command: Command, tmp_path: Path) -> None:
    done = command("bench", broken(tmp_path), str(TINY), *FAULTY, "--compile", "none", "--json", *QUICK)
    assert done.code == 4, done.err
    printed = json.loads(done.out)
    assert [row["status"] for row in printed] == ["failed", "ok"]
    assert "killed by SIGKILL" in printed[0]["reason"]
    assert [json.loads(line) for line in OUT.read_text().splitlines()] == printed


def test_where_the_time_goes_lands_in_the_record_and_below_the_table(command: Command) -> None:
    done = command("bench", str(TINY), "--compile", "none", "--per-block", *QUICK)
    assert done.code == 0, done.err
    (record,) = records()
    assert {"stem", "mixer", "mlp", "norm", "head"} <= {row["what"] for row in record.parts}
    assert "mixer" in done.out.partition("saved")[2]


@pytest.mark.usefixtures("workers_are_canned")
class TestWithCannedWorkers:
    """What is the parent's work alone."""

    def test_every_condition_that_is_asked_for_is_in_the_record(self, command: Command) -> None:
        options = ("--mode", "train", "--dtype", "amp_bfloat16", "--checkpoint", "block", "--compile", "none")
        done = command("bench", str(TINY), *QUICK, "--channels-last", *options)
        assert done.code == 0, done.err
        (record,) = records()
        asked = (record.mode, record.dtype, record.channels_last, record.checkpoint)
        assert asked == ("train", "amp_bfloat16", True, True)
        assert "train, amp_bfloat16, channels last, checkpoint" in " ".join(done.out.split())

    def test_lists_with_commas_are_every_combination(self, command: Command) -> None:
        done = command(
            "bench", str(TINY), *QUICK[2:], "--batch", "2,4", "--dtype", "float32,bfloat16", "--compile", "none"
        )
        assert done.code == 0, done.err
        assert {(one.batch, one.dtype) for one in records()} == {
            (2, "float32"),
            (2, "bfloat16"),
            (4, "float32"),
            (4, "bfloat16"),
        }

    def test_a_masked_autoencoder_is_pretrained(self, command: Command, tmp_path: Path) -> None:
        path = tmp_path / "mae.yaml"
        path.write_text(json.dumps(AUTOENCODER))
        done = command("bench", str(path), *QUICK, "--mode", "pretrain", "--compile", "none")
        assert done.code == 0, done.err
        assert [one.mode for one in records()] == ["pretrain"]

    def test_subjects_are_measured_against_the_first(self, command: Command) -> None:
        edited = ("--set", "classes=7")
        done = command("bench", str(TINY), "poolformer_s12", *QUICK, *edited, "--compile", "none")
        assert done.code == 0, done.err
        assert [one.name for one in records()] == ["tiny classes=7", "poolformer_s12 classes=7"]
        assert len({one.pair for one in records()}) == 1

    def test_several_processes_give_an_interval_and_one_gives_none(self, command: Command) -> None:
        command("bench", str(TINY), *QUICK, "--compile", "none")
        command("bench", str(TINY), *QUICK, "--compile", "none", "--processes", "3")
        one, three = (record.figures for record in records())
        assert one is not None
        assert three is not None
        assert (one.images_per_s_low, one.images_per_s_high) == (None, None)
        assert three.images_per_s_low is not None

    def test_what_is_there_is_skipped_on_resuming_and_what_failed_is_not(
        self, command: Command, tmp_path: Path
    ) -> None:
        both = ("bench", broken(tmp_path), str(TINY), *FAULTY, *QUICK, "--compile", "none", "--resume")
        assert command("bench", str(TINY), *QUICK, "--compile", "none").code == 0
        again = command("bench", str(TINY), *QUICK, "--compile", "none", "--resume")
        assert (again.code, again.out) == (0, "")
        assert len(records()) == 1
        assert command(*both).code == 4
        assert command(*both).code == 4  # the pair in which one failed is measured again
        assert [one.status for one in records()] == ["ok", "failed", "ok", "failed", "ok"]

    def test_the_largest_batch_that_fits_both_is_measured_and_found_again_on_resuming(self, command: Command) -> None:
        largest = ("bench", str(TINY), *QUICK[2:], "--batch", "max")
        assert command(*largest).code == 0
        assert [one.batch for one in records()] == [FITTING, FITTING]
        assert command(*largest, "--resume").code == 0
        assert len(records()) == 2

    def test_where_one_fails_at_any_batch_its_row_says_so_beside_the_other(
        self, command: Command, tmp_path: Path
    ) -> None:
        largest = ("bench", str(TINY), broken(tmp_path), *FAULTY, *QUICK[2:], "--batch", "max", "--compile", "none")
        done = command(*largest)
        assert done.code == 4, done.err
        assert [(one.status, one.batch) for one in records()] == [("ok", FITTING), ("failed", FITTING)]

    def test_where_all_fail_the_exit_code_is_1(self, command: Command, tmp_path: Path) -> None:
        done = command("bench", broken(tmp_path), *FAULTY, "--compile", "none", *QUICK)
        assert done.code == 1, done.err
        assert re.search("failed +broken: the worker ended with exit code 7", done.out)
        assert [one.failure for one in records()] == ["crash"]

    def test_no_measurement_takes_anything_from_what_was_there(self, command: Command) -> None:
        for _ in range(2):
            assert command("bench", str(TINY), *QUICK, "--compile", "none").code == 0
        first = OUT.read_text().splitlines()[0]
        command("bench", str(TINY), *QUICK, "--compile", "none")
        assert OUT.read_text().splitlines()[0] == first
        assert len(records()) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([str(TINY), "--set", "classes=many"], 2, "--set classes=many"),
        (["no_such_spec"], 2, "no spec called `no_such_spec`"),
        (["no_such.py:net"], 2, "no file `no_such.py`"),
        ([str(TINY), "--compile", "fast"], 2, "no way to compile called `fast`"),
        ([str(TINY), "--batch", "two"], 2, "a number of images, or max"),
        ([str(TINY), "--batch", "0"], 2, "a batch of 0"),
        ([str(TINY), "--processes", "0"], 2, "0 processes"),
        ([str(TINY), "--seconds", "nan"], 2, "`seconds` of nan"),
        ([str(TINY), "--memory", "-1"], 2, "--memory -1"),
        ([str(TINY), "--mode", "pretrain"], 2, "is not a masked autoencoder"),
        ([str(TINY), "--checkpoint", "block"], 2, "activation checkpointing"),
        ([str(TINY), "--checkpoint", "most"], 2, "--checkpoint most"),
        ([str(TINY), "--checkpoint", "0.5", "--mode", "train"], 2, "`none` compiles nothing"),
        ([str(TINY), "--checkpoint", "2", "--mode", "train"], 2, "a share of 2 of the activations"),
        ([str(TINY), "--image", "16x"], 2, "--image"),
        ([str(TINY), "--device", "cuda:99"], 6, "--device cpu"),
        ([str(TINY), "--out", "missing/results.jsonl"], 3, "no folder"),
        ([str(TINY), "--out", "/dev/full"], 3, "no ordinary file"),
    ],
)
def test_bad_input_is_told_before_anything_is_measured(
    command: Command, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    done = command("bench", *arguments)
    assert (done.code, done.out) == (code, ""), done.err
    assert words in done.err
    assert list(tmp_path.iterdir()) == []


def test_the_command_is_there_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "metablocks", "bench", "no_such_spec"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no spec called `no_such_spec`" in done.stderr
    assert "Traceback" not in done.stderr
