"""Records: what goes into JSON comes back; what is absent stays absent; what is none is refused and never half read."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metablocks.bench.case import dump, load
from metablocks.bench.record import SCHEMA, Process, Record, bare, cell, dumps, from_data, to_data

from .conftest import case, figures, process

OLD = Path(__file__).parents[1] / "data" / "schema_1.jsonl"
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def whole(record: Record) -> Record:
    """With everything that nests."""
    parted = replace(process(), parts_s={"forward": (0.1, 0.2)}, sensors={"gpu_clock_mhz": [1, 2]}, compile_s=1.0)
    return replace(record, processes=(parted,), parts=({"part": "stem", "share": 0.5, "macs": None},), image=(16, 16))


def test_a_record_comes_back_from_json_as_it_was(record: Record) -> None:
    assert from_data(json.loads(dumps(record))) == record
    assert from_data(json.loads(dumps(whole(record)))) == whole(record)


def test_a_failed_record_comes_back_and_carries_no_figures() -> None:
    lost = replace(bare(case(), "now"), failure="killed", reason="the worker was killed")
    data = json.loads(dumps(lost))
    assert from_data(data) == lost
    assert not {"images_per_s", "latency_p50_s", "macs", "peak_memory_bytes", "verdict"} & set(data)


def test_what_was_not_counted_is_absent_and_never_zero(record: Record) -> None:
    data = to_data(replace(record, macs=None, flops=None, unknown_ops=("mine::op",)))
    assert "macs" not in data
    assert "flops" not in data
    assert data["unknown_ops"] == ["mine::op"]


def test_json_is_strict_where_a_number_is_none(record: Record) -> None:
    data = json.loads(dumps(replace(record, figures=replace(figures(), build_s=math.nan))))
    assert data["build_s"] is None
    assert from_data(data).figures == replace(figures(), build_s=None)


def test_every_key_of_a_quantity_names_its_unit(record: Record) -> None:
    units = ("_s", "_per_s", "_q1", "_q3", "_low", "_high", "_bytes", "_share", "_calls")
    plain = {"schema", "batch", "seconds", "params", "macs", "flops", "activations", "calls_per_round"}
    for data in (to_data(whole(record)), to_data(whole(record))["processes"][0]):
        numbers = {key for key, value in data.items() if type(value) in (int, float)}
        assert {key for key in numbers - plain if not key.endswith(units)} == set()


@pytest.mark.parametrize(
    "data", [{}, [], None, {"status": "ok"}, {"schema": 1, "status": "ok", "name": "x"}, {"schema": True}]
)
def test_anything_else_is_not_a_record(data: Any) -> None:
    with pytest.raises(ValueError, match="not a record"):
        from_data(data)


def test_a_newer_schema_is_not_read_as_if_it_were_ours(record: Record) -> None:
    with pytest.raises(ValueError, match=f"schema {SCHEMA + 1}"):
        from_data(to_data(record) | {"schema": SCHEMA + 1})


def test_keys_that_are_not_ours_are_left(record: Record) -> None:
    assert from_data(to_data(record) | {"colour": "blue"}) == record


@pytest.mark.parametrize(
    "wrong",
    [
        {"images_per_s": "fast"},
        {"images_per_s": 0},
        {"batch": "8"},
        {"batch": True},
        {"name": None},
        {"warnings": "one"},
        {"warnings": [1]},
        {"image": ["16", 16]},
        {"environment": []},
        {"processes": []},
        {"processes": [{}]},
        {"processes": 3},
    ],
    ids=str,
)
def test_a_value_of_another_type_is_told_when_it_is_read_and_not_later(record: Record, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a record"):
        from_data(to_data(record) | wrong)


@pytest.mark.parametrize("rounds", [[], [0.1, -0.1], [0.1, 0], [0.1, math.nan], [math.inf], ["0.1"], [[0.1]]], ids=str)
def test_times_that_cannot_be_are_no_record(record: Record, rounds: list[Any]) -> None:
    data = to_data(record)
    data["processes"] = [{**data["processes"][0], "rounds_s": rounds}]
    with pytest.raises(ValueError, match="not a record"):
        from_data(data)


@given(key=st.sampled_from(sorted(to_data(replace(bare(case(), "now"), pair="p", run="r", image=(1, 1))))), junk=JUNK)
def test_junk_in_any_key_is_a_record_or_no_record(key: str, junk: Any) -> None:
    data = to_data(replace(bare(case(), "now"), status="ok", figures=figures(), processes=(process(),)))
    try:
        made = from_data({**data, key: junk})
    except ValueError:
        return
    assert isinstance(made, Record)
    cell(made)


@given(junk=JUNK)
def test_junk_is_no_record(junk: Any) -> None:
    with pytest.raises(ValueError, match="not a record"):
        from_data(junk)


@given(key=st.sampled_from(sorted(item.name for item in fields(Process))), junk=JUNK)
def test_junk_in_a_process_is_a_record_or_no_record(key: str, junk: Any) -> None:
    data = to_data(replace(bare(case(), "now"), status="ok", figures=figures(), processes=(process(),)))
    data["processes"][0][key] = junk
    try:
        assert all(spent > 0 for spent in from_data(data).processes[0].rounds_s)
    except ValueError:
        return


def test_records_of_schema_1_become_ours_and_stay_so() -> None:
    lines = OLD.read_text().splitlines()
    old = [json.loads(line) for line in lines if json.loads(line)["schema"] == 1]
    if not old:
        pytest.skip("the results that are kept here have been measured anew")
    for data in old:
        made = from_data(data)
        assert (made.schema, made.status, made.kind) == (SCHEMA, "ok", "spec")
        assert made.digest == data["spec_digest"]
        assert made.figures is not None
        assert made.figures.images_per_s == data["images_per_s"]
        assert [*made.processes[0].rounds_s] == data["rounds_s"]
        assert [*made.processes[0].latency_rounds_s] == data["latency_rounds_s"]
        assert made.figures.compile_cold_s == (data["compile_s"] if data.get("compile_cache") == "cold" else None)
        assert from_data(json.loads(dumps(made))) == made


def test_a_failed_record_of_schema_1_is_read() -> None:
    data = to_data(replace(bare(case(), "now"), failure="killed", reason="gone"))
    old = {key: value for key, value in data.items() if key not in ("digest", "kind", "processes")}
    made = from_data({**old, "schema": 1, "spec_digest": "abc"})
    assert (made.failure, made.digest, made.processes, made.figures) == ("killed", "abc", (), None)


def test_two_measurements_of_one_thing_are_of_one_cell(record: Record) -> None:
    again = replace(record, time="later", seconds=9.0, figures=figures(99.0))
    assert cell(again) == cell(record)
    for other in ({"batch": 3}, {"dtype": "bfloat16"}, {"compile": "block"}, {"channels_last": True}, {"digest": "0"}):
        assert cell(replace(record, **other)) != cell(record)


def test_a_case_travels_as_one_line_of_json() -> None:
    sent = case(fault="raise", compile="block", modules=("one", "two"), memory_limit_bytes=1)
    assert "\n" not in dump(sent)
    assert load(dump(sent)) == sent
    assert load(dump(replace(sent, subject=replace(sent.subject, image=(16, 32))))).subject.image == (16, 32)
