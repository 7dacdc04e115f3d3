"""The self-check as a whole: one check after the other, the verdict that is kept, the printout."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from metablocks.bench import selfcheck
from metablocks.bench.selfcheck import verdict
from metablocks.bench.selfcheck.check import Check, Proof
from metablocks.bench.selfcheck.checks import Question, prove
from metablocks.bench.selfcheck.lab import Lab, NotMeasuredError
from metablocks.bench.session import Session
from metablocks.core.errors import MissingError

TIME = "2026-01-01T00:00:00+00:00"
ENVIRONMENT = {"torch": "2.13.0", "threads": 2, "cpus": 2, "device_name": "a processor", "load_1min": 0.5}


def passing(lab: Lab) -> Check:
    """It passes."""
    lab.watch("at it")
    return Check("1", "is 1", True)


def failing(lab: Lab) -> Check:  # noqa: ARG001
    """It fails."""
    return Check("2", "is 1", False, "make it 1")


def absent(lab: Lab) -> Check:  # noqa: ARG001
    """It cannot be."""
    raise NotMeasuredError("no compiler", missing=True)


def broken(lab: Lab) -> Check:  # noqa: ARG001
    """It breaks.

    At once.
    """
    raise RuntimeError("\x1b[31mno")


def test_a_check_that_breaks_is_a_failure_and_the_others_run() -> None:
    told: list[str] = []
    asked = [Question("S10 c", broken), Question("S9 b", absent), Question("S2 a", passing)]
    proof = prove(Lab("cpu", told.append), asked)
    assert [check.key for check in proof.checks] == ["S2 a", "S9 b", "S10 c"]
    assert [check.passed for check in proof.checks] == [True, None, False]
    assert (proof.passed, proof.failed, proof.absent) == (False, ("S10 c",), ("S9 b",))
    assert proof.checks[2].rule == "It breaks."
    assert "RuntimeError: \\x1b[31mno" in proof.checks[2].advice
    assert told[0] == "1 of 3, S10 c"
    assert told[-1] == "3 of 3, S2 a: at it"


def test_what_noise_may_have_spoiled_is_tried_once_more_and_says_so() -> None:
    calls: list[int] = []

    def moody(lab: Lab) -> Check:  # noqa: ARG001
        calls.append(1)
        return Check(str(len(calls)), "is 2", len(calls) == 2)

    (check,) = prove(Lab("cpu"), [Question("S1 a", moody)]).checks
    assert (check.passed, check.first_try, len(calls)) == (True, "1", 2)
    (check,) = prove(Lab("cpu"), [Question("S1 a", moody)]).checks
    assert (check.passed, len(calls)) == (False, 4)
    (check,) = prove(Lab("cpu"), [Question("S1 a", moody, noisy=False)]).checks
    assert (check.passed, check.first_try, len(calls)) == (False, None, 5)


def test_the_threads_of_this_process_are_as_they_were() -> None:
    import torch

    before = torch.get_num_threads()
    inside: list[int] = []

    def look(lab: Lab) -> Check:  # noqa: ARG001
        inside.append(torch.get_num_threads())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prove(Lab("cpu"), [Question("S1 a", look)])
    assert inside == [1]
    assert torch.get_num_threads() == before


def proof_of(*asked: Question, environment: dict[str, object] | None = None) -> Proof:
    proof = prove(Lab("cpu"), asked)
    return replace(proof, time=TIME, environment=ENVIRONMENT if environment is None else environment)


GOOD, BAD = Question("S1 good", passing, noisy=False), Question("S14 noise", failing, noisy=False)


def test_the_last_verdict_is_kept_for_its_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path / "cache"))
    assert verdict.last_told(ENVIRONMENT, "cpu") is None
    assert verdict.remember(proof_of(GOOD)).kept
    assert verdict.last_told(ENVIRONMENT, "cpu") == f"passed {TIME}"
    assert verdict.last_told(ENVIRONMENT | {"timm": "1.0", "load_1min": 3.0}, "cpu") == f"passed {TIME}"
    assert verdict.last_told(ENVIRONMENT | {"torch": "2.14.0"}, "cpu") is None
    assert verdict.last_told(ENVIRONMENT, "cuda") is None
    assert verdict.last_told({}, "cpu") is None
    assert verdict.remember(proof_of(GOOD, BAD)).kept
    assert verdict.last_told(ENVIRONMENT, "cpu") == f"failed S14 noise, {TIME}"
    assert [path.name for path in (tmp_path / "cache" / "metablocks").iterdir()] == ["self-check.json"]


def test_a_record_carries_the_verdict_of_its_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))

    def environment() -> dict[str, object]:
        found: dict[str, object] = Session(Lab("cpu").case("pause"), lambda phase: None).prepare()["environment"]  # noqa: ARG005
        return found

    before = environment()
    assert "self_check" not in before
    verdict.remember(replace(proof_of(GOOD), environment=before))
    assert environment()["self_check"] == f"passed {TIME}"


def test_old_conditions_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))
    proof = proof_of(GOOD)
    for threads in range(verdict.KEPT + 1):
        verdict.remember(replace(proof, environment=ENVIRONMENT | {"threads": threads}))
    assert verdict.last_told(ENVIRONMENT | {"threads": 0}, "cpu") is None
    assert verdict.last_told(ENVIRONMENT | {"threads": 1}, "cpu")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', "\x00", "[" * 100_000])
def test_a_file_of_verdicts_that_does_not_read_is_none(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))
    (tmp_path / "metablocks").mkdir()
    (tmp_path / "metablocks" / "self-check.json").write_text(text)
    assert verdict.last_told(ENVIRONMENT, "cpu") is None
    assert verdict.remember(proof_of(GOOD)).kept
    assert verdict.last_told(ENVIRONMENT, "cpu")


def test_a_cache_folder_that_cannot_be_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path / "file"))
    proof = verdict.remember(proof_of(GOOD))
    assert not proof.kept
    selfcheck.report_checks(proof)
    assert "set METABLOCKS_CACHE" in capsys.readouterr().out


def test_the_printout_fits_in_80_columns_and_tells_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    proof = proof_of(GOOD, BAD, Question("S9 b", absent), Question("S10 c", broken))
    selfcheck.report_checks(replace(proof, foreign_cpu_share=0.03))
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    lines = " ".join(text.split())
    for words in (
        "ok S1 good 1 is 1",
        "FAIL S14 noise 2 is 1",
        "failed S14 noise: make it 1",
        "not run S9 b: no compiler",
        "again S10 c: this is the second try",
        "1 of 4 passed, 2 failed, 1 not run here, in",
        "cpu (a processor), 2 processors, 2 threads, torch 2.13.0, load 0.5, other programs took 3.0 %",
        TIME,
    ):
        assert words in lines, words
    assert "\x1b" not in text


def test_as_data_it_is_strict_json_and_absent_stays_absent(capsys: pytest.CaptureFixture[str]) -> None:
    selfcheck.report_checks(proof_of(GOOD, Question("S9 b", absent)), as_json=True)
    data = json.loads(capsys.readouterr().out)
    assert data["passed"] is True
    assert data["absent"] == ["S9 b"]
    good, none = data["checks"]
    assert good["passed"] is True
    assert "passed" not in none
    assert "first_try" not in good


def test_reading_a_verdict_and_printing_need_no_torch() -> None:
    code = (
        "import sys; import metablocks.bench.selfcheck, metablocks.bench.selfcheck.table;"
        "assert not {'torch', 'numpy'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_device_that_is_not_there_is_told_before_anything_runs() -> None:
    with pytest.raises(MissingError):
        selfcheck.check_all("cuda:99")
