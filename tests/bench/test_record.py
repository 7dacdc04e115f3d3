"""Records: what goes into JSON comes back; what is absent stays absent."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from metablocks.bench.case import dump, load
from metablocks.bench.record import Record, dumps, failed, from_data, to_data

from .conftest import case, figures


def test_a_record_comes_back_from_json_as_it_was(record: Record) -> None:
    assert from_data(json.loads(dumps(record))) == record


def test_a_failed_record_comes_back_and_carries_no_figures() -> None:
    lost = failed(case(), "now", "killed", "the worker was killed")
    data = json.loads(dumps(lost))
    assert from_data(data) == lost
    assert not {"images_per_s", "latency_p50_s", "macs", "peak_memory_bytes"} & set(data)


def test_what_was_not_counted_is_absent_and_never_zero(record: Record) -> None:
    data = to_data(replace(record, macs=None, flops=None, unknown_ops=("mine::op",)))
    assert "macs" not in data
    assert "flops" not in data
    assert data["unknown_ops"] == ["mine::op"]


def test_json_is_strict_where_a_number_is_none(record: Record) -> None:
    data = json.loads(dumps(replace(record, figures=replace(figures(), build_s=math.nan))))
    assert data["build_s"] is None


def test_every_key_of_a_quantity_names_its_unit(record: Record) -> None:
    data = to_data(record)
    units = ("_s", "_per_s", "_q1", "_q3", "_bytes", "_share")
    plain = {"schema", "batch", "seconds", "params", "macs", "flops", "calls_per_round"}
    numbers = {key for key, value in data.items() if isinstance(value, int | float)}
    assert {key for key in numbers - plain if not key.endswith(units)} == set()


@pytest.mark.parametrize("data", [{}, {"status": "ok"}, {"schema": 1, "status": "ok", "name": "x"}])
def test_anything_else_is_not_a_record(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a record"):
        from_data(data)


def test_a_case_travels_as_one_line_of_json() -> None:
    sent = case(fault="raise", compile="block")
    assert "\n" not in dump(sent)
    assert load(dump(sent)) == sent
