"""The largest batch that fits, by workers that are thrown away."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from metablocks.bench import fit, hand
from metablocks.bench.case import Case
from metablocks.bench.fit import fits, fitted
from metablocks.bench.hand import Hand
from metablocks.core.errors import MetablocksError

from .conftest import FITTING, case, of_file, sent, unheard


@pytest.mark.usefixtures("workers_are_canned")
def test_the_largest_batch_that_fits_is_found_without_a_compiler_each_in_a_worker_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried: list[Case] = []
    whole = Hand.__init__

    def seen(one: Hand, case: Case, *rest: object) -> None:
        tried.append(case)
        whole(one, case, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Hand, "__init__", seen)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told: list[str] = []
    found = fitted(case(compile="block"), told.append)
    assert (found.batch, found.compile) == (FITTING, "block")
    assert {one.compile for one in tried} == {"none"}
    assert len({one.batch for one in tried}) == len(tried)
    assert told == [f"trying a batch of {one.batch}" for one in tried]
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_fits_nowhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "fits", lambda case, watch: False)  # noqa: ARG005
    with pytest.raises(MetablocksError, match=r"tiny: not even a batch of 1 fits"):
        fitted(case(), unheard)


def failing(act: str) -> str:
    return f"import os, signal, sys; {act}"


@pytest.mark.parametrize(
    "act",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        'os.write(int(sys.argv[2]), b\'{"failed": ["out_of_memory", "too large"]}\\n\')',
    ],
)
def test_a_worker_that_runs_out_of_memory_or_is_killed_for_it_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    monkeypatch.setattr(hand, "BOOT", failing(act))
    assert not fits(case(), unheard)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("os._exit(3)", "tiny at batch 8: the worker ended with exit code 3 while starting"),
        (
            'os.write(int(sys.argv[2]), b\'{"failed": ["error", "its own fault"]}\\n\')',
            "tiny at batch 8: its own fault",
        ),
    ],
)
def test_a_subject_that_fails_for_another_reason_is_no_question_of_its_batch(
    monkeypatch: pytest.MonkeyPatch, act: str, words: str
) -> None:
    monkeypatch.setattr(hand, "BOOT", failing(act))
    with pytest.raises(MetablocksError) as told:
        fitted(case(), unheard)
    assert words in str(told.value)


def test_a_worker_with_a_limit_tells_what_fits_and_what_does_not() -> None:
    assert fits(sent(memory_limit_bytes=1 << 30), unheard)
    assert not fits(of_file("without_end", memory_limit_bytes=1 << 28), unheard)
