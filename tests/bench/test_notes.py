"""What stands below the table: failures, warnings, ratios with a verdict, how to read it, the conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from metablocks.bench.notes import label, notes
from metablocks.bench.record import Record

from .conftest import figures, process

Pair = list[Record]


def pair(record: Record, gain: float, **other: Any) -> Pair:
    """A base, and another one that is `gain` times as fast in each of three processes."""
    run: dict[str, Any] = {"run": "a run", "pair": f"a pair {gain}"}
    speeds = (17.1, 17.2, 17.3)
    base = replace(record, **run, role="base", compile="none", processes=tuple(map(process, speeds)))
    faster = tuple(process(gain * speed * (1 + 1e-4 * index)) for index, speed in enumerate(speeds))
    changes: dict[str, Any] = {"compile": "block", "figures": figures(17.2 * gain, 0.0649 / gain), **other}
    return [base, replace(record, **run, role="other", processes=faster, **changes)]


def told(records: Sequence[Record], key: str) -> list[str]:
    return [text for one, text, _ in notes(records, records) if one == key]


@pytest.mark.parametrize(
    ("gain", "words", "colour"), [(1.3, "faster", "green"), (0.8, "slower", "red"), (1.001, "cannot tell", "")]
)
def test_a_pair_is_told_as_a_ratio_with_bounds_and_a_verdict(
    record: Record, gain: float, words: str, colour: str
) -> None:
    both = pair(record, gain)
    ((text, style),) = [(text, style) for key, text, style in notes(both, both) if key == "ratio"]
    assert text.startswith(f"tiny, block: {gain:.3f} (")
    assert f"times the images/s of none: {words}" in text
    assert f"one image {gain:.3g} times as fast" in text
    assert style == colour


def test_a_ratio_to_another_network_names_it(record: Record) -> None:
    both = pair(record, 1.3, name="other", digest="another", compile="none")
    assert "other: 1.300" in told(both, "ratio")[0]
    assert "times the images/s of tiny: faster" in told(both, "ratio")[0]


def test_where_nothing_was_measured_in_turns_there_is_no_ratio(record: Record) -> None:
    base, other = pair(record, 1.3)
    assert told([replace(base, pair=None), replace(other, pair=None)], "ratio") == []
    assert told([base], "ratio") == []
    lost = replace(other, status="failed", figures=None, failure="killed", reason="gone", processes=())
    assert told([base, lost], "ratio") == []
    assert told([base, replace(other, verdict="invalid")], "ratio") == []


def test_a_single_process_gives_a_ratio_without_bounds_or_verdict(record: Record) -> None:
    base, other = (replace(one, processes=one.processes[:1]) for one in pair(record, 1.3))
    assert "tiny, block: 1.300 times the images/s of none: cannot tell" in told([base, other], "ratio")[0]


def test_a_ratio_of_times_in_doubt_says_so(record: Record) -> None:
    base, other = pair(record, 1.3)
    unstable = replace(other, verdict="unstable", warnings=("not steady; close other programs",))
    assert told([base, unstable], "ratio")[0].endswith("; see the warnings")
    assert not told([base, other], "ratio")[0].endswith("; see the warnings")


def test_a_pair_that_does_not_infer_has_no_ratio_of_single_images(record: Record) -> None:
    stepped = [replace(one, mode="train", figures=replace(figures(), latency_p50_s=None)) for one in pair(record, 1.3)]
    assert "one image" not in told(stepped, "ratio")[0]


def test_of_many_equals_none_is_called_different_by_chance(record: Record) -> None:
    records = [one for index in range(20) for one in pair(record, 1 + 1e-4 * index)]
    assert all("cannot tell" in text for text in told(records, "ratio"))


def test_failures_and_warnings_are_told_with_their_row(record: Record) -> None:
    lost = replace(record, status="failed", compile="block", figures=None, failure="x", reason="killed by SIGKILL")
    doubtful = replace(record, verdict="unstable", warnings=("drift of 9 %; close other programs",))
    found = list(notes([lost, doubtful], [lost, doubtful]))
    assert ("failed", "tiny, block: killed by SIGKILL", "red") in found
    assert ("warning", "tiny, none: drift of 9 %; close other programs", "yellow") in found
    assert told([doubtful], "?") == ["unstable: a warning above puts these times in doubt"]
    assert told([replace(record, verdict="invalid")], "!") == ["invalid: these times cannot be; see the warning"]
    assert told([replace(lost, reason=None)], "failed") == ["tiny: no reason told"]


def test_a_row_is_called_by_what_sets_it_apart(record: Record) -> None:
    assert label(record, [record]) == "tiny"
    larger = replace(record, batch=64, dtype="bfloat16")
    assert label(larger, [record, larger]) == "tiny, 64, bfloat16"
    assert label(replace(record, digest="another", name="net"), [record, larger]) == "net"


def test_the_columns_are_explained_by_what_is_there(record: Record) -> None:
    assert told([record], "images/s") == ["median over 3 processes of 5 rounds, and half its 95 % interval"]
    single = replace(record, processes=record.processes[:1])
    assert told([single], "images/s") == ["median over 1 process of 5 rounds, and half its 95 % interval"]
    assert told([record, single], "images/s") == [
        "median over 1 to 3 processes of 5 rounds, and half its 95 % interval"
    ]
    assert told([record], "memory") == ["weights + growth"]
    assert told([record], "MACs") == ["of products"]
    assert told([record], "compile") == []
    compiled = replace(record, figures=replace(figures(), compile_cold_s=40.0))
    assert "with an empty cache" in told([compiled], "compile")[0]
    stepped = replace(record, figures=replace(figures(), latency_p50_s=None))
    assert told([stepped], "latency") == []


def test_the_conditions_are_told_once_each(record: Record) -> None:
    trained = replace(record, mode="train", channels_last=True, checkpoint=True)
    assert told([record, record, trained], "device") == [
        "cpu (a processor), infer, float32, 2 threads, torch 2.13.0, random weights",
        "cpu (a processor), train, float32, channels last, checkpoint, 2 threads, torch 2.13.0, random weights",
    ]


def test_a_row_whose_process_kept_freed_memory_says_so(record: Record) -> None:
    kept = replace(record, environment=record.environment | {"freed_memory": "kept"})
    assert told([kept], "device") == [
        "cpu (a processor), infer, float32, freed memory kept, 2 threads, torch 2.13.0, random weights"
    ]


def test_a_row_that_knows_no_device_leaves_it_to_the_rows_that_do(record: Record) -> None:
    lost = replace(record, status="failed", figures=None, failure="crash", reason="gone", environment={}, processes=())
    assert len(told([lost, record], "device")) == 1
    assert told([lost], "device") == ["cpu, infer, float32, random weights"]


def test_nothing_from_outside_reaches_the_terminal_as_it_is(record: Record) -> None:
    hostile = "\x1b[31m\u202e[red]"
    place = {"device_name": hostile, "torch": hostile}
    rows = [
        replace(record, name=hostile, warnings=(hostile,), environment=place),
        replace(record, name=hostile, compile="block", status="failed", figures=None, failure="x", reason=hostile),
    ]
    for _, text, _ in notes(rows, rows):
        assert "\x1b" not in text
        assert "\u202e" not in text
