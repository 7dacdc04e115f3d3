"""`metablocks report` as a user meets it: what it writes where, what it refuses, and that it never waits for torch."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metablocks.cli import main

ROW = {
    "schema": 2, "time": "2026-01-01T00:00:00+00:00", "status": "ok", "name": "swin_t", "subject": "swin_t",
    "kind": "spec", "digest": "b756", "mode": "infer", "batch": 8, "dtype": "float32", "device": "cpu",
    "compile": "none", "seconds": 3.0, "verdict": "valid", "image": [224, 224], "params": 28288354, "macs": 4490566656,
    "flops": 8981133312, "environment": {"device_name": "AMD EPYC", "threads": 2, "torch": "2.13.0"},
    "images_per_s": 14.57, "images_per_s_q1": 14.1, "images_per_s_q3": 15.1,
    "processes": [{"rounds_s": [0.54, 0.55, 0.56], "calls_per_round": 1, "wall_s": 1.7, "steady": True,
                   "warm_up_calls": 3, "warm_up_s": 1.6, "build_s": 0.4, "first_call_s": 0.6}],
}  # fmt: skip
FAILED = {**{key: value for key, value in ROW.items() if not key.startswith("images_per_s")}, "status": "failed",
          "failure": "crash", "reason": "killed by SIGKILL", "compile": "block"}  # fmt: skip

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs `report` in a folder with results of two rows; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    Path("results.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in (ROW, FAILED)))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["metablocks", "report", *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        assert isinstance(code, int)
        return code, printed.out, printed.err

    return call


def test_without_an_option_the_table_is_printed(run: Run) -> None:
    code, out, err = run("results.jsonl")
    assert (code, err) == (0, "")
    assert "swin_t" in out
    assert "14.57" in out
    assert "killed by SIGKILL" in out


def test_every_export_is_written_in_one_go(run: Run) -> None:
    code, out, err = run("results.jsonl", "--html", "a.html", "--csv", "a.csv", "--markdown", "a.md")
    assert (code, out) == (0, "")
    assert err.splitlines() == ["a.html written", "a.csv written", "a.md written"]
    assert Path("a.html").read_text().startswith("<!doctype html>")
    assert Path("a.csv").read_text().startswith("model,")
    assert Path("a.md").read_text().startswith("| network |")
    assert sorted(os.listdir()) == ["a.csv", "a.html", "a.md", "results.jsonl"]


@pytest.mark.parametrize(
    ("option", "start"), [("--html", "<!doctype html>"), ("--csv", "model,"), ("--markdown", "| network |")]
)
def test_a_dash_is_stdout(run: Run, option: str, start: str) -> None:
    code, out, err = run("results.jsonl", option, "-")
    assert (code, err) == (0, "")
    assert out.startswith(start)
    assert os.listdir() == ["results.jsonl"]


def test_json_is_the_records(run: Run) -> None:
    code, out, _ = run("results.jsonl", "--json")
    assert code == 0
    rows = json.loads(out)
    assert [row["status"] for row in rows] == ["ok", "failed"]
    assert rows[0]["images_per_s"] == 14.57
    assert "images_per_s" not in rows[1]


def test_several_files_are_one_report(run: Run) -> None:
    Path("more.jsonl").write_text(json.dumps({**ROW, "name": "vit_s16"}) + "\n")
    _, out, _ = run("results.jsonl", "more.jsonl", "--csv", "-")
    assert [row["name"] for row in csv.DictReader(io.StringIO(out))] == ["swin_t", "swin_t", "vit_s16"]


def test_a_torn_line_is_a_warning_and_the_rest_is_there(run: Run) -> None:
    with open("results.jsonl", "a") as file:
        file.write('{"schema": 2, "time": ')
    code, out, err = run("results.jsonl", "--csv", "-")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "results.jsonl:3" in err
    assert "torn" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.jsonl"], 3, "missing.jsonl"),
        (["results.jsonl", "--html", "missing/a.html"], 3, "no folder"),
        (["results.jsonl", "--csv", "."], 3, "is a folder"),
        (["results.jsonl", "--html", "-", "--csv", "-"], 2, "only one thing can go to stdout"),
        (["results.jsonl", "--csv", "-", "--json"], 2, "only one thing can go to stdout"),
        (["results.jsonl", "--html", "results.jsonl"], 2, "is taken"),
        (["results.jsonl", "--html", "a", "--csv", "./a"], 2, "is taken"),
        (["empty.jsonl"], 2, "no records in empty.jsonl"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(run: Run, arguments: list[str], code: int, words: str) -> None:
    Path("empty.jsonl").touch()
    before = Path("results.jsonl").read_bytes()
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert words in err
    assert "help:" in err
    assert sorted(os.listdir()) == ["empty.jsonl", "results.jsonl"]
    assert Path("results.jsonl").read_bytes() == before


def test_a_long_file_shows_its_newest_rows_in_a_terminal_and_all_of_them_in_csv(run: Run) -> None:
    rows = [{**ROW, "digest": str(index), "name": f"net_{index}"} for index in range(210)]
    Path("results.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    _, out, err = run("results.jsonl")
    assert "net_209" in out
    assert "net_9 " not in out
    assert "the newest 200 of 210 records" in err
    _, out, _ = run("results.jsonl", "--csv", "-")
    assert len(out.splitlines()) == 211


@pytest.mark.parametrize("export", ["--html", "--csv", "--markdown", ""])
def test_a_report_never_imports_torch_or_numpy(tmp_path: Path, export: str) -> None:
    (tmp_path / "results.jsonl").write_text(json.dumps(ROW) + "\n")
    arguments = ["report", "results.jsonl", *([export, "out"] if export else [])]
    probe = (
        f"import sys; sys.argv = ['metablocks', *{arguments}]\n"
        "from metablocks.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert not {'torch', 'numpy', 'triton'} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
