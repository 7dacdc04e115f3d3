"""The command: what it prints where, what it appends, and what it ends with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from metablocks.bench import store

from .conftest import MIXERS, TINY

QUICK = ["--batch", "2", "--seconds", "0.05"]


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metablocks", "bench", *arguments, "--out", "results.jsonl"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


def test_eager_and_compiled_are_measured_side_by_side_and_appended(tmp_path: Path) -> None:
    done = bench(tmp_path, str(TINY), *QUICK)
    assert done.returncode == 0, done.stderr
    found = store.read(tmp_path / "results.jsonl")
    assert [(record.compile, record.status) for record in found.records] == [("none", "ok"), ("block", "ok")]
    compiled = found.records[1].figures
    assert compiled is not None
    assert compiled.compiled_graphs == 3  # stem, one kind of block, head
    assert compiled.eager_difference is not None
    assert compiled.eager_difference <= 1e-3
    assert "2 records appended to results.jsonl" in done.stdout
    assert "ratio     tiny, block:" in done.stdout
    assert done.stderr.splitlines() == ["1 of 2: tiny, compile none", "2 of 2: tiny, compile block"]


def test_where_one_case_fails_the_others_are_there_and_the_exit_code_is_4(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(TINY.read_text().replace("mixer: pooling", "mixer: {faulty: {fault: kill}}"))
    store_file = tmp_path / "results.jsonl"
    done = bench(tmp_path, str(broken), str(TINY), "--mixers", str(MIXERS), "--compile", "none", "--json", *QUICK)
    assert done.returncode == 4, done.stderr
    printed = json.loads(done.stdout)
    assert [row["status"] for row in printed] == ["failed", "ok"]
    assert [json.loads(line) for line in store_file.read_text().splitlines()] == printed


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([str(TINY), "--set", "classes=many"], 2, "--set classes=many"),
        (["no_such_spec"], 2, "no spec called `no_such_spec`"),
        ([str(TINY), "--compile", "fast"], 2, "no way to compile called `fast`"),
        ([str(TINY), "--device", "cuda:99"], 6, "--device cpu"),
        ([str(TINY), "--out", "missing/results.jsonl"], 3, "no folder"),
    ],
)
def test_bad_input_is_told_before_anything_is_measured(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    command = [sys.executable, "-m", "metablocks", "bench", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
