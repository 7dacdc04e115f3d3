"""What is left of a bench that is resumed: what is not there yet, what failed, and all of it in other surroundings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metablocks.bench import resume
from metablocks.bench.case import Case
from metablocks.bench.hand import WorkerFailedError
from metablocks.bench.record import Record, bare
from metablocks.bench.resume import remaining

from .conftest import case, figures, process, sent, unheard

HERE: dict[str, Any] = {"torch": "2.13.0", "threads": 2, "device_name": "a processor", "python": "3.11.7", "load": 0.5}

Looks = Callable[..., None]


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """What a worker says of this machine; an error where it cannot."""

    def seen(place: dict[str, Any] | Exception) -> None:
        class Looking:
            def __init__(self, *_: object) -> None:
                pass

            def __enter__(self) -> Looking:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def ask(self, do: str) -> dict[str, Any]:
                assert do == "look"
                if isinstance(place, Exception):
                    raise place
                return {"environment": place}

        monkeypatch.setattr(resume, "Hand", Looking)

    seen(HERE)
    return seen


def measured(one: Case, **changes: Any) -> Record:
    """The record of a case that went well here, alone."""
    fine: dict[str, Any] = {"status": "ok", "failure": None, "reason": None, "verdict": "valid", "figures": figures()}
    found = replace(bare(one, "then"), **fine, environment=HERE, processes=(process(),) * one.processes)
    return replace(found, **changes)


def together(base: Case, other: Case, **changes: Any) -> list[Record]:
    pair = {"run": "a run", "pair": "a pair", **changes}
    return [measured(base, role="base", **pair), measured(other, role="other", **pair)]


def left(pairs: list[tuple[Case, ...]], records: list[Record]) -> list[tuple[Case, ...]]:
    return remaining(pairs, records, unheard)


EAGER, COMPILED, LARGER = case(), case(compile="block"), case(batch=4)


def test_what_is_there_is_left_out() -> None:
    assert left([(EAGER,), (LARGER,)], [measured(EAGER)]) == [(LARGER,)]
    assert left([(EAGER,)], [measured(EAGER), measured(LARGER)]) == []


def test_what_failed_is_measured_again() -> None:
    lost = replace(bare(EAGER, "then"), environment=HERE, failure="killed", reason="the worker was killed")
    assert left([(EAGER,)], [lost]) == [(EAGER,)]
    assert left([(EAGER,)], [lost, measured(EAGER)]) == []


@pytest.mark.parametrize(
    "changes", [{"torch": "2.14.0"}, {"threads": 1}, {"device_name": "another"}, {"cpu_quota": 1.5}], ids=str
)
def test_what_was_measured_in_another_environment_is_measured_again(changes: dict[str, Any]) -> None:
    assert left([(EAGER,)], [measured(EAGER, environment=HERE | changes)]) == [(EAGER,)]


@pytest.mark.parametrize("changes", [{"load": 9.0}, {"python": "3.11.9"}], ids=str)
def test_what_changes_no_time_is_no_other_environment(changes: dict[str, Any]) -> None:
    assert left([(EAGER,)], [measured(EAGER, environment=HERE | changes)]) == []


@pytest.mark.parametrize(
    "changes",
    [{"batch": 3}, {"dtype": "bfloat16"}, {"mode": "train"}, {"compile": "model"}, {"channels_last": True}],
    ids=str,
)
def test_other_conditions_are_another_case(changes: dict[str, Any]) -> None:
    assert left([(EAGER,)], [measured(replace(EAGER, **changes))]) == [(EAGER,)]


def test_another_text_under_the_same_name_is_another_case() -> None:
    edited = replace(EAGER, subject=replace(EAGER.subject, text="{}"))
    assert left([(EAGER,)], [measured(edited)]) == [(EAGER,)]


def test_how_long_it_was_measured_is_no_condition() -> None:
    assert left([(replace(EAGER, seconds=9.0),)], [measured(EAGER)]) == []


def test_a_pair_is_there_only_where_both_were_measured_in_turns() -> None:
    pair = (EAGER, COMPILED)
    assert left([pair], together(*pair)) == []
    assert left([pair], [measured(EAGER), measured(COMPILED)]) == [pair]
    assert left([pair], together(*pair)[:1]) == [pair]
    assert left([pair], together(COMPILED, EAGER)) == [pair]
    base, other = together(*pair)
    assert left([pair], [base, replace(other, pair="another pair")]) == [pair]


def test_a_pair_of_which_one_failed_is_measured_again_as_a_pair() -> None:
    base, other = together(EAGER, COMPILED)
    lost = replace(other, status="failed", figures=None, failure="killed", reason="gone", processes=())
    assert left([(EAGER, COMPILED)], [base, lost]) == [(EAGER, COMPILED)]


def test_what_was_measured_in_a_pair_is_there_for_a_case_that_is_alone() -> None:
    assert left([(COMPILED,)], together(EAGER, COMPILED)) == []


def test_peers_are_measured_again_with_another_version_of_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = replace(EAGER, subject=replace(EAGER.subject, kind="timm", text="net"))
    monkeypatch.setattr(resume, "versions", lambda names: {"timm": "1.0.0"} if "timm" in names else {})
    assert left([(peer,)], [measured(peer, environment=HERE | {"timm": "1.0.0"})]) == []
    assert left([(peer,)], [measured(peer, environment=HERE | {"timm": "0.9.0"})]) == [(peer,)]


def test_where_nothing_is_there_no_worker_is_started(looks: Looks) -> None:
    looks(AssertionError("a worker was started"))
    assert left([(EAGER,)], []) == [(EAGER,)]
    assert left([], [measured(EAGER)]) == []


def test_a_worker_that_cannot_look_leaves_everything_to_be_measured(looks: Looks) -> None:
    looks(WorkerFailedError("killed", "the worker was killed by SIGKILL"))
    assert left([(EAGER,)], [measured(EAGER)]) == [(EAGER,)]


def test_a_worker_that_looks_here_sees_what_a_measurement_writes_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from metablocks.bench import environment, hand

    monkeypatch.setattr(resume, "Hand", hand.Hand)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told: list[str] = []
    seen = resume._environment(sent(), told.append)
    assert environment.fingerprint(seen) != environment.fingerprint({})
    assert seen["threads"] in range(1, 10_000)
    assert told == ["importing torch"]
    assert list(tmp_path.iterdir()) == []
