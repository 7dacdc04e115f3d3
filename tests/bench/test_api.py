"""The public function."""

from __future__ import annotations

from functools import partial

import pytest

import metablocks
from metablocks.bench import conditions
from metablocks.core.errors import InputError, SpecError
from metablocks.spec import read

from .conftest import TINY


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = partial(conditions.Conditions, seconds=0.05, modules=("quick_peaks",))
    monkeypatch.setattr(conditions, "Conditions", quick)


def test_measure_takes_a_spec_and_returns_a_record() -> None:
    record = metablocks.measure(read(TINY, {"classes": 7}), mode="infer", batch=1, processes=1)
    assert record.status == "ok", record.reason
    assert (record.name, record.edits) == ("tiny", ("classes=7",))
    assert record.spec is not None
    assert record.spec["classes"] == 7
    assert (record.mode, record.batch, record.compile, len(record.processes)) == ("infer", 1, "none", 1)
    assert record.figures is not None
    assert record.figures.images_per_s > 0


@pytest.mark.usefixtures("workers_are_canned")
def test_measure_takes_a_path_and_every_condition_and_has_three_processes() -> None:
    record = metablocks.measure(TINY, mode="train", batch=3, dtype="amp_bfloat16", compile="block")
    assert (record.status, record.name) == ("ok", "tiny")
    assert (record.mode, record.batch, record.dtype, record.compile) == ("train", 3, "amp_bfloat16", "block")
    assert len(record.processes) == 3
    assert record.figures is not None
    assert record.figures.images_per_s_low is not None


def test_measure_tells_what_is_wrong_before_anything_is_measured() -> None:
    with pytest.raises(SpecError):
        metablocks.measure("net: classifier\n")
    with pytest.raises(InputError, match=r"`pretrain` is for those"):
        metablocks.measure(TINY, mode="pretrain")
