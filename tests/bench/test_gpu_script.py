"""The script that fills the table of a GPU: checks come first, nothing is measured twice, what is not there is said."""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from metablocks.bench import store

SCRIPTS = Path(__file__).parents[2] / "bench"
SMALL = ("--small", "--device", "cpu", "--dtype", "float32", "--batch", "2", "--processes", "1", "--seconds", "0.05")


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of the checks that were run; each passes unless the first of the list is `fails`."""
    run: list[list[str]] = []

    def ended(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        run.append(command)
        return subprocess.CompletedProcess(command, int(run[0] == ["fails"]), "told\n", "")

    monkeypatch.setattr(subprocess, "run", ended)
    return run


@pytest.fixture
def gpu(
    script: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[..., Ended]:
    module = script("gpu")

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["gpu.py", "--out", str(tmp_path / "gpu.jsonl"), *arguments])
        code = module.main()
        return Ended(code, *capsys.readouterr())

    return call


def test_nothing_is_told_where_nothing_was_measured(gpu: Callable[..., Ended]) -> None:
    done = gpu("--table")
    lines = [line for line in done.out.splitlines() if "not measured" in line]
    assert len(lines) == 18
    assert lines[7].split() == ["swin_t", "train", "compiled", "not", "measured", "1.35", "1.7", "0.6"]
    assert "the tests for a GPU have not run" in done.out


def test_without_a_gpu_it_says_so(gpu: Callable[..., Ended], checks: list[list[str]]) -> None:
    done = gpu("--device", "cuda:99")
    assert done.code == 6
    assert "no device `cuda:99`" in done.err
    assert checks == []


def test_a_row_that_is_not_there_is_told_with_those_that_are(gpu: Callable[..., Ended]) -> None:
    done = gpu("--device", "cpu", "--only", "swin")
    assert done.code == 2
    assert "no row `swin`: tests, vit_b16" in done.err


def test_masked_autoencoders_need_their_original(gpu: Callable[..., Ended], checks: list[list[str]]) -> None:
    done = gpu("--device", "cpu", "--only", "mae_vit_b16")
    assert done.code == 0
    assert "needs the original: --mae-original" in done.err
    assert len(checks) == 1


@pytest.mark.usefixtures("workers_are_canned")
class TestWithCannedWorkers:
    def test_a_row_is_checked_and_measured_once(
        self, gpu: Callable[..., Ended], checks: list[list[str]], tmp_path: Path
    ) -> None:
        for _ in range(2):
            done = gpu(*SMALL, "--only", "small/infer")
            assert done.code == 0, done.err
        assert len(checks) == 1
        assert len(store.read(tmp_path / "gpu.jsonl").records) == 2
        first, second = (line for line in done.out.splitlines() if line.startswith("small "))
        assert "not measured" not in first
        assert "not measured" in second
        assert "check of small on cpu: passed: told" in done.out

    def test_a_row_can_be_checked_alone(
        self, gpu: Callable[..., Ended], checks: list[list[str]], tmp_path: Path
    ) -> None:
        assert gpu(*SMALL, "--only", "small/check").code == 0
        assert len(checks) == 1
        assert not (tmp_path / "gpu.jsonl").exists()

    def test_what_is_wrong_is_not_timed(
        self, gpu: Callable[..., Ended], checks: list[list[str]], tmp_path: Path
    ) -> None:
        checks.append(["fails"])
        done = gpu(*SMALL)
        assert done.code == 1
        assert "small is wrong: told" in done.err
        assert "check of small on cpu: FAILED: told" in done.out
        assert not (tmp_path / "gpu.jsonl").exists()


def test_the_check_measures_the_distance_of_every_way(script: Callable[[str], ModuleType]) -> None:
    check = script("gpu_check")
    found = check.distances(script("gpu_table").TINY, None, "cpu")
    assert check.wrong(found) == []
    assert 0 < found["float32, reference"] < found["bfloat16, other"] < 0.05
    assert set(found) == {
        *(f"{dtype}, {way}" for dtype in ("float32", "bfloat16") for way in ("default", "default, compiled")),
        "float32, reference",
        "bfloat16, other",
    }


@pytest.mark.parametrize(
    ("name", "off"), [("float32, default", 1e-3), ("bfloat16, default", float("nan")), ("float64, peer", 1e-2)]
)
def test_the_check_tells_what_is_too_far_away(script: Callable[[str], ModuleType], name: str, off: float) -> None:
    (told,) = script("gpu_check").wrong({"bfloat16, other": 1e-2, name: off})
    assert told.startswith(f"{name}: ")
