"""Two sets of records: which cells are held against each other, and what is said of each."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest

from metablocks.bench.case import Case
from metablocks.bench.compare import compare, compare_pair, to_data
from metablocks.bench.record import Figures, Process, Record, bare
from metablocks.bench.subject import Subject
from metablocks.bench.turns import pairs, times

PLACE = {"device_name": "a processor", "torch": "2.13.0", "python": "3.12.1", "threads": 2}
SPEC = json.dumps({"image": {"size": [224, 224]}})


def measured(name: str = "swin_t", rate: float = 10.0, seed: int = 0, **more: Any) -> Record:
    """A record of three processes of ten rounds at about `rate` images a second, or of what `more` says."""
    draw = random.Random(f"{name} {seed}")
    batch, many, noise = more.pop("batch", 4), more.pop("processes", 3), more.pop("noise", 0.002)
    kind = more.pop("kind", "spec")
    subject = Subject(kind, name, more.pop("subject", name), more.pop("text", SPEC), more.pop("edits", ()))
    processes = tuple(
        Process(
            rounds_s=tuple(2 * batch / rate * math.exp(draw.gauss(0, noise)) for _ in range(10)),
            calls_per_round=2,
            wall_s=9.0,
            steady=True,
            warm_up_calls=3,
            warm_up_s=1.0,
            build_s=0.1,
            first_call_s=0.5,
        )
        for _ in range(many)
    )
    figures = Figures(rate, 0.99 * rate, 1.01 * rate, latency_p50_s=1 / rate, peak_memory_bytes=int(1e9 / rate))
    case = Case(subject, batch=batch, compile=more.pop("compile", "none"), mode=more.pop("mode", "infer"))
    found = replace(bare(case, f"time {seed}"), status="ok", failure=None, reason=None, verdict="valid")
    found = replace(found, figures=figures, processes=processes, environment=PLACE, image=(224, 224))
    return replace(found, **more)


def lost(name: str = "swin_t", **more: Any) -> Record:
    failure = {"status": "failed", "failure": "killed", "reason": "the worker was killed", "figures": None}
    return measured(name, **{**failure, "processes": 0, "image": None, "verdict": None, **more})


def verdicts(base: list[Record], other: list[Record]) -> list[str]:
    return [row.verdict for row in compare(base, other).rows]


def test_times_are_seconds_for_an_image() -> None:
    assert times(measured(rate=10.0))[0] == pytest.approx([0.1] * 10, rel=0.02)


def test_a_faster_other_is_better_and_a_slower_one_worse() -> None:
    assert verdicts([measured()], [measured(rate=11.0, seed=1)]) == ["better"]
    assert verdicts([measured()], [measured(rate=9.0, seed=1)]) == ["worse"]
    assert verdicts([measured()], [measured(seed=1)]) == ["cannot tell"]


def test_latency_and_memory_stand_beside_as_ratios() -> None:
    row = compare([measured()], [measured(rate=20.0, seed=1)]).rows[0]
    assert (row.latency_ratio, row.memory_ratio) == pytest.approx((0.5, 0.5))
    without = replace(measured(), figures=Figures(10.0, 9.9, 10.1))
    row = compare([measured()], [without]).rows[0]
    assert (row.latency_ratio, row.memory_ratio) == (None, None)


@pytest.mark.parametrize(
    "condition",
    [
        {"mode": "train"},
        {"batch": 8},
        {"image": (256, 256)},
        {"dtype": "bfloat16"},
        {"device": "cuda"},
        {"compile": "block"},
        {"channels_last": True},
        {"checkpoint": True},
        {"edits": ("classes=10",)},
        {"kind": "timm"},
    ],
    ids=lambda condition: next(iter(condition)),
)
def test_cells_under_other_conditions_are_listed_and_not_compared(condition: dict[str, Any]) -> None:
    both = measured("poolformer_s12")
    found = compare([measured(), both], [measured(**condition), both])
    assert [row.base.name for row in found.rows] == ["poolformer_s12"]
    assert [record.name for record in (*found.base_only, *found.other_only)] == ["swin_t", "swin_t"]


def test_a_network_is_known_by_its_name_wherever_its_file_lies() -> None:
    assert len(compare([measured(subject="old/net.yaml")], [measured(subject="new/net.yaml")]).rows) == 1


def test_two_files_that_are_called_alike_are_two_networks() -> None:
    base = [measured(subject="a/net.yaml"), measured(subject="b/net.yaml", rate=20.0)]
    found = compare(base, [measured(subject="b/net.yaml", rate=20.0, seed=1)])
    assert [row.base.subject for row in found.rows] == ["b/net.yaml"]
    assert [record.subject for record in found.base_only] == ["a/net.yaml"]


def test_the_last_record_of_a_cell_stands_for_it() -> None:
    found = compare([measured(rate=5.0), measured(seed=1)], [measured(rate=11.0, seed=2), measured(seed=3)])
    assert [row.verdict for row in found.rows] == ["cannot tell"]
    assert compare([measured(), lost()], [measured(seed=1)]).rows == ()


def test_two_networks_are_compared_where_each_side_has_one() -> None:
    other = measured("timm:swin", 12.0, kind="timm", image=(256, 256))
    found = compare([measured()], [other])
    assert [(row.other.name, row.verdict) for row in found.rows] == [("timm:swin", "better")]
    assert found.rows[0].changed == ("image 224 -> 256",)


def test_two_networks_keep_their_images_apart_where_there_are_several() -> None:
    base = [measured(), measured(image=(256, 256), rate=8.0)]
    found = compare(base, [measured("vit_s16", 8.0, image=(256, 256))])
    assert [row.base.image for row in found.rows] == [(256, 256)]


def test_several_networks_are_not_guessed_at() -> None:
    found = compare([measured(), measured("vit_s16")], [measured("mixer_s16")])
    assert found.rows == ()
    assert len(found.base_only) == 2


def in_turns(rate: float = 11.0, **more: Any) -> tuple[Record, Record]:
    """A pair with drift that only pairing can take out: the same in both."""
    base, other = measured(run="r", pair="1", role="base"), measured(rate=rate, run="r", pair="1", role="other", **more)
    slow = [math.exp(0.1 * index) for index in range(3)]

    def drifting(record: Record) -> Record:
        processes = zip(record.processes, slow, strict=True)
        return replace(
            record,
            processes=tuple(replace(one, rounds_s=tuple(far * t for t in one.rounds_s)) for one, far in processes),
        )

    return drifting(base), drifting(other)


def test_a_pair_that_was_measured_in_turns_is_compared_round_by_round() -> None:
    base, other = in_turns(seed=1)
    row = compare_pair(base, other)
    assert (row.paired, row.verdict) == (True, "better")
    apart = compare_pair(base, replace(other, pair="2"))
    assert (apart.paired, apart.verdict) == (False, "cannot tell")


@pytest.mark.parametrize("change", [{"run": "s"}, {"role": "base"}, {"pair": None}])
def test_a_pair_is_one_run_one_pair_and_two_roles(change: dict[str, Any]) -> None:
    base, other = in_turns(seed=1)
    assert not compare_pair(base, replace(other, **change)).paired


def test_a_pair_that_lost_a_process_is_not_taken_round_by_round() -> None:
    base, other = in_turns(seed=1)
    assert not compare_pair(base, replace(other, processes=other.processes[:2])).paired


def test_pairs_of_a_file_are_found_by_run_and_pair() -> None:
    base, other = in_turns(seed=1)
    later = [replace(record, run="later") for record in (base, other)]
    alone = measured(pair="2", role="base")
    assert pairs([base, other, alone, *later]) == [(base, other), (later[0], later[1])]
    assert pairs([base, replace(other, verdict="invalid")]) == []


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("torch", "2.11.0", "torch 2.11.0 -> 2.13.0"),
        ("python", "3.11.0", "Python 3.11.0 -> 3.12.1"),
        ("threads", 4, "threads 4 -> 2"),
        ("device_name", "another", "device another -> a processor"),
        ("torch", "\x1b[31m", "torch \\x1b[31m -> 2.13.0"),
    ],
)
def test_what_else_differs_is_named(key: str, value: object, told: str) -> None:
    row = compare([measured(environment=PLACE | {key: value})], [measured(seed=1)]).rows[0]
    assert row.changed == (told,)


def test_what_one_side_does_not_tell_is_not_called_different() -> None:
    assert compare([measured(environment={})], [measured(environment=PLACE | {"cuda": "13.0"})]).rows[0].changed == ()


def test_a_spec_that_was_edited_under_its_name_is_named() -> None:
    edited = measured(text=json.dumps({"image": {"size": [224, 224]}, "classes": 10}))
    assert compare([measured()], [edited]).rows[0].changed == ("the spec",)


def test_across_devices_there_is_a_ratio_and_no_verdict() -> None:
    elsewhere = PLACE | {"device_name": "another"}
    row = compare([measured()], [measured(rate=20.0, seed=1, environment=elsewhere)]).rows[0]
    assert row.comparison is not None
    assert row.comparison.ratio == pytest.approx(2, rel=0.01)
    assert (row.verdict, row.decided) == ("cannot tell", False)
    assert "different devices" in row.doubts[0]


def test_what_failed_or_cannot_be_is_listed_and_never_compared() -> None:
    names = ["one", "two", "three", "four"]
    base = [measured("one"), lost("two"), measured("three"), lost("four")]
    invalid = measured("three", verdict="invalid", warnings=("faster than the hardware",))
    found = compare(base, [lost("one"), measured("two"), invalid, lost("four")])
    assert found.rows == found.base_only == found.other_only == ()
    told = {(one.record.name, one.role): (one.reason, one.regressed) for one in found.lost}
    killed = "the worker was killed"
    assert {name for name, _ in told} == set(names)
    assert told == {
        ("one", "other"): (killed, True),
        ("two", "base"): (killed, False),
        ("three", "other"): ("invalid: faster than the hardware", True),
        ("four", "base"): (killed, False),
        ("four", "other"): (killed, False),
    }


def test_unstable_times_are_compared_and_marked() -> None:
    row = compare([measured()], [measured(rate=11.0, verdict="unstable", warnings=("busy; wait",))]).rows[0]
    assert (row.verdict, row.doubts) == ("better", ("unstable in B: busy; wait",))


def test_one_process_gives_no_verdict_and_says_what_would() -> None:
    row = compare([measured()], [measured(rate=20.0, processes=1)]).rows[0]
    assert (row.verdict, row.decided) == ("cannot tell", False)
    assert "--processes 3" in row.doubts[0]


def test_a_record_against_itself_is_told_as_such() -> None:
    row = compare([measured()], [measured()]).rows[0]
    assert (row.comparison, row.doubts) == (None, ("both sides are the same measurement",))


@pytest.mark.parametrize("value", [0.0, math.nan, -1.0])
def test_raw_times_that_are_none_end_in_a_row_without_a_ratio(value: float) -> None:
    broken = measured(seed=1)
    broken = replace(broken, processes=(replace(broken.processes[0], rounds_s=(value,)), *broken.processes[1:]))
    row = compare([measured()], [broken]).rows[0]
    assert (row.comparison, row.verdict) == (None, "cannot tell")
    assert "no times" in row.doubts[0]


def test_verdicts_allow_for_the_number_of_rows() -> None:
    base = [measured(f"net_{index}", noise=0.02) for index in range(40)]
    other = [measured(one.name, rate=10.5, seed=1, noise=0.02) for one in base]
    alone = [compare([one], [two]).rows[0].verdict for one, two in zip(base, other, strict=True)]
    rows = compare(base, other).rows
    assert alone.count("better") > sum(row.verdict == "better" for row in rows)
    assert any("as many rows" in doubt for row in rows for doubt in row.doubts)


def test_a_difference_within_the_noise_of_machines_is_none() -> None:
    row = compare([measured()], [measured(rate=10.03, seed=1)]).rows[0]
    assert row.comparison is not None
    assert row.comparison.p is not None
    assert row.comparison.p < 0.05
    assert (row.verdict, "less than 0.5 %" in row.doubts[0]) == ("cannot tell", True)


def test_as_data_absent_stays_absent() -> None:
    found = compare([measured(processes=1), lost("gone")], [measured(seed=1, processes=1), lost("gone")])
    data = json.loads(json.dumps(to_data(found), allow_nan=False))
    assert not {"ratio_low", "ratio_high", "p", "p_adjusted"} & set(data["rows"][0])
    assert (data["rows"][0]["verdict"], data["rows"][0]["in_turns"]) == ("cannot tell", False)
    assert [(one["name"], one["role"], one["image"]) for one in data["failed"]] == [
        ("gone", "base", [224, 224]),
        ("gone", "other", [224, 224]),
    ]
