"""Axes, the Pareto front and where labels have room: what a plot is made of."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metablocks.bench.report.axes import axis, trimmed
from metablocks.bench.report.facts import times
from metablocks.bench.report.marks import labels
from metablocks.bench.report.markup import Markup, element, verbatim
from metablocks.bench.report.pairs import MOST, pairs
from metablocks.bench.report.plots import pareto
from metablocks.core import units

from .samples import failed, pair, record

POSITIVE = st.floats(1e-29, 1e29)


@given(st.lists(POSITIVE, min_size=1, max_size=20), st.booleans())
def test_every_value_and_tick_lies_on_its_axis(values: list[float], zero: bool) -> None:
    found = axis("", values, str, zero)
    places = [found.place(value) for value in (*values, *found.ticks)]
    assert all(math.isfinite(place) and -1e-6 <= place <= 100 + 1e-6 for place in places)
    assert 1 <= len(found.ticks) <= 12


def test_values_that_differ_widely_stand_on_a_logarithmic_axis_that_says_so() -> None:
    wide, near = axis("MACs", [1.0, 100.0], str), axis("MACs", [10.0, 11.0], str)
    assert wide.log
    assert wide.title == "MACs, logarithmic"
    assert not near.log
    assert near.title == "MACs"


@pytest.mark.parametrize(
    ("text", "short"), [("2.00 G", "2 G"), ("2.50 G", "2.5 G"), ("100 M", "100 M"), ("20", "20"), ("0.5", "0.5")]
)
def test_a_tick_ends_where_its_digits_do(text: str, short: str) -> None:
    assert trimmed(text) == short


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=15))
def test_the_front_holds_exactly_what_no_other_point_beats(points: list[tuple[float, float]]) -> None:
    front = pareto(points)
    beaten = [
        any(other[0] >= one[0] and other[1] >= one[1] and other != one for other in points) for one in points
    ]  # fmt: skip
    assert {points[index] for index in front} == {one for one, lost in zip(points, beaten, strict=True) if not lost}


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), max_size=12))
def test_labels_cover_no_other_label(points: list[tuple[float, float]]) -> None:
    size = (470.0, 320.0)
    found = labels(points, ["a network"] * len(points), (size, (270.0, 320.0)))
    boxes = []
    for (across, up), one in zip(points, found, strict=True):
        if one:
            x, y = across * 4.7 + one.dx, (100 - up) * 3.2 + one.dy
            left = x - {"start": 0, "end": 1, "middle": 0.5}[one.anchor] * 59.4
            boxes.append((left, y - 12, left + 59.4, y + 3))
    for index, a in enumerate(boxes):
        for b in boxes[index + 1 :]:
            assert a[0] >= b[2] - 1e-6 or b[0] >= a[2] - 1e-6 or a[1] >= b[3] - 1e-6 or b[1] >= a[3] - 1e-6


def test_times_are_those_of_one_image() -> None:
    one = record(batch=8)
    process = replace(one.processes[0], rounds_s=(1.6, 3.2), calls_per_round=2)
    assert times(replace(one, processes=(process,))) == [[0.1, 0.2]]


def test_times_of_which_one_is_no_time_are_none() -> None:
    one = record()
    process = replace(one.processes[0], rounds_s=(1.6, 0.0))
    assert times(replace(one, processes=(one.processes[0], process))) == []


def test_the_newest_pairs_are_compared_and_the_others_counted() -> None:
    many = [row for number in range(MOST + 3) for row in pair(number, record(), record("vit_s16"))]
    found = pairs(many)
    assert len(found.shown) == MOST
    assert found.left_out == 3
    assert found.shown[-1].base.pair == f"pair {MOST + 2}"


def test_a_pair_of_which_one_side_failed_is_not_compared() -> None:
    assert pairs(pair(0, record(), failed("vit_s16"))).shown == ()


def test_markup_is_made_of_escaped_text_and_markup() -> None:
    inner = element("b", {}, "<&>")
    assert element("p", {"class": '"x"', "hidden": True, "id": None}, inner, "'") == (
        '<p class="&quot;x&quot;" hidden><b>&lt;&amp;&gt;</b>&#x27;</p>'
    )
    assert isinstance(inner, Markup)


def test_a_script_cannot_end_itself() -> None:
    with pytest.raises(ValueError, match="ends its own <script>"):
        verbatim("script", "let a = '</Script>'")


def test_a_label_of_a_tick_is_that_of_the_table() -> None:
    assert trimmed(units.short(5e9)) == "5 G"
