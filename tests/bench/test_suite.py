"""Which cases a bench runs, and what a subject is."""

from __future__ import annotations

import math

import pytest

from metablocks.bench.subject import planned, subject
from metablocks.bench.suite import Conditions, cases, headline
from metablocks.core.errors import InputError, SpecError
from metablocks.core.shipped import shipped_names
from metablocks.spec import read

from .conftest import TINY


def test_every_subject_is_measured_under_every_way_to_compile_once() -> None:
    tiny = subject(TINY)
    found = cases([tiny, tiny], Conditions(compiles=("none", "block", "none")))
    assert [(case.subject.name, case.compile, case.batch) for case in found] == [
        ("tiny", "none", 8),
        ("tiny", "block", 8),
    ]


def test_all_faults_of_the_conditions_are_told_at_once() -> None:
    wrong = Conditions(mode="dream", batch=0, compiles=("fast",), seconds=math.nan, limit_s=-1)
    with pytest.raises(InputError) as raised:
        cases([], wrong)
    assert len(raised.value.faults) == 5


def test_the_headline_names_shipped_specs() -> None:
    assert {*headline("cpu"), *headline("cuda:1"), *headline("mps")} <= set(shipped_names())


def test_a_subject_is_frozen_with_its_edits_and_keeps_the_digest_of_its_spec() -> None:
    found = subject(TINY, ["classes=7"])
    assert found.edits == ("classes=7",)
    assert found.spec["classes"] == 7
    assert found.digest == read(TINY, ["classes=7"]).digest
    head = planned(found).head
    assert head is not None
    assert head.classes == 7


def test_a_spec_that_does_not_plan_is_told_before_any_case_runs() -> None:
    with pytest.raises(SpecError):
        subject(TINY, ["image.size=17"])


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_spec_reads_back_from_what_a_worker_is_sent(name: str) -> None:
    sent = subject(name)
    assert read(sent.text).digest == sent.digest
