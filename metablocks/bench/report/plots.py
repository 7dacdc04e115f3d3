"""Plots of records: throughput against costs with the Pareto front, and memory against batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metablocks.bench.record import Record
from metablocks.bench.report.axes import axis, doublings, line, plot
from metablocks.bench.report.facts import device, figure, label, positive
from metablocks.bench.report.marks import labels, legend, point
from metablocks.bench.report.markup import Child, Markup, element, joined
from metablocks.core import units
from metablocks.core.text import printable

PANELS = 4  # sets of conditions that get a plot each
SERIES = 8  # lines in a plot, as many as there are shapes
LETTERS = 26  # characters of a label
HALF = ((470.0, 320.0), (270.0, 320.0))  # width and height in pixels of a plot beside another one: wide page, phone
FULL = ((900.0, 320.0), (270.0, 320.0))
COMPILES = ("none", "block", "model")
COSTS = (("MACs of one image", "macs"), ("parameters", "params"))

Group = tuple[str, tuple[Record, ...]]


def against_costs(records: Sequence[Record]) -> list[Markup]:
    """For each set of like conditions with at least two networks: throughput against MACs, and against parameters."""
    found = []
    panels, left_out = _panels(records, _conditions, lambda group: len({str(one.digest) for one in group}))
    for told, group in panels:
        figures = [_scatter(group, title, name, told) for title, name in COSTS]
        drawn = [one for one in figures if one is not None]
        if drawn:
            caption = element("h3", {}, told)
            found.append(element("section", {"class": "panel"}, caption, element("div", {"class": "pair"}, *drawn)))
    return [*found, *_left_out(left_out)] if found else []


def against_batch(records: Sequence[Record]) -> list[Markup]:
    """For each set of like conditions with a network at several batch sizes: peak memory against batch."""
    several = [record for series in _series(records).values() for record in series]
    panels, left_out = _panels(several, _but_batch, len)
    found = [element("section", {"class": "panel"}, element("h3", {}, told), _lines(group)) for told, group in panels]
    return [*found, *_left_out(left_out)]


def _left_out(many: int) -> list[Markup]:
    text = f"{units.count(many)} more sets of conditions have no plot; their rows are in the table"
    return [element("p", {"class": "note"}, text)] if many else []


def _conditions(record: Record) -> str:
    return f"{_but_batch(record)}, batch {record.batch}"


def _but_batch(record: Record) -> str:
    told = [f"{record.mode}", f"{record.dtype} on {device(record)}"]
    told += ["channels last"] if record.channels_last else []
    told += ["activation checkpointing"] if record.checkpoint else []
    return printable(", ".join(told), 200)


def _panels(
    records: Sequence[Record], conditions: Callable[[Record], str], size: Callable[[tuple[Record, ...]], int]
) -> tuple[list[Group], int]:
    """Records under like conditions, the largest groups, and how many groups are left out.

    A cell that was measured again counts once.
    """
    groups: dict[str, dict[tuple[str, str, str], Record]] = defaultdict(dict)
    for record in records:
        if record.figures and record.verdict != "invalid":
            groups[conditions(record)][str(record.digest), str(record.compile), str(record.batch)] = record
    found = [(told, tuple(cells.values())) for told, cells in groups.items()]
    found = [group for group in found if size(group[1]) > 1]
    ordered = sorted(found, key=lambda group: -size(group[1]))
    return ordered[:PANELS], len(ordered) - len(ordered[:PANELS])


@dataclass(frozen=True)
class _Point:
    record: Record
    cost: float
    speed: float


def _scatter(records: Sequence[Record], title: str, name: str, conditions: str) -> Markup | None:
    given = [(one, positive(getattr(one, name)), positive(figure(one, "images_per_s"))) for one in records]
    points = [_Point(record, cost, speed) for record, cost, speed in given if cost and speed]
    if len({str(point.record.digest) for point in points}) < 2:
        return None
    x = axis(title, [point.cost for point in points], units.short)
    y = axis("images/s", [point.speed for point in points], units.digits)
    front = pareto([(point.cost, point.speed) for point in points])
    # labels of the front come first where there is not room for all
    order = sorted(range(len(points)), key=lambda index: (index not in front, -points[index].speed))
    points, front = [points[index] for index in order], {order.index(index) for index in front}
    places = [(x.place(point.cost), y.place(point.speed)) for point in points]
    along = [places[index] for index in sorted(front, key=lambda index: points[index].cost)]
    marks = [
        point(place, _kind(one.record), "point front" if index in front else "point", _told(one, name))
        for index, (one, place) in enumerate(zip(points, places, strict=True))
    ]
    names = f"throughput against {title}, {conditions}: {len(points)} rows"
    drawn = plot(names, x, y, [line(along, "front-line"), *marks, *_labels(points, places, front)])
    kinds = sorted({_kind(one.record) for one in points})
    compiles = legend([(kind, f"compile {COMPILES[kind]}") for kind in kinds if kind < len(COMPILES)])
    head = element("h4", {}, f"Throughput against {title}")
    return element("figure", {}, head, drawn, compiles)


def pareto(points: Sequence[tuple[float, float]]) -> set[int]:
    """Indices of the points (size, speed) that no other one beats: as large or larger, and faster.

    Size counts for a network, not against it: the smallest network is nearly always the fastest one, so a front of
    small and fast would be that one point. Of networks of like size this front has the fastest.
    """
    best, found = float("-inf"), set()
    for index in sorted(range(len(points)), key=lambda index: points[index], reverse=True):
        if points[index][1] > best:
            best = points[index][1]
            found.add(index)
    return found


def _kind(record: Record) -> int:
    return COMPILES.index(record.compile) if record.compile in COMPILES else len(COMPILES)


def _told(one: _Point, name: str) -> str:
    cost = units.short(one.cost)
    unit = "MACs" if name == "macs" else "parameters"
    return f"{label(one.record)}: {units.rate(one.speed)} images/s, {cost} {unit}"


def _labels(points: Sequence[_Point], places: Sequence[tuple[float, float]], front: set[int]) -> list[Markup]:
    """One name a network, at its fastest row."""
    named: set[str] = set()
    texts = []
    for one in points:
        texts.append("" if str(one.record.digest) in named else printable(str(one.record.name), LETTERS))
        named.add(str(one.record.digest))
    return _placed(places, texts, HALF, ["name front" if index in front else "name" for index in range(len(points))])


def _placed(
    places: Sequence[tuple[float, float]],
    texts: Sequence[str],
    sizes: tuple[tuple[float, float], tuple[float, float]],
    styles: Sequence[str],
) -> list[Markup]:
    found = []
    for place, text, style, spot in zip(places, texts, styles, labels(places, texts, sizes), strict=True):
        if spot is not None:
            shift = {"dx": spot.dx, "dy": spot.dy, "text-anchor": spot.anchor}
            where = {"x": f"{place[0]:.2f}%", "y": f"{100 - place[1]:.2f}%", **shift}
            found.append(element("text", {"class": f"{style} wide" if spot.wide else style, **where}, text))
    return found


def _series(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Rows with a peak by conditions and network, in order of batch; only where there are several batch sizes."""
    found: dict[tuple[str, str], dict[float, Record]] = defaultdict(dict)
    for record in records:
        batch = positive(record.batch)
        if batch and positive(figure(record, "peak_memory_bytes")):
            found[_but_batch(record), f"{record.digest} {record.compile}"][batch] = record
    ordered = {key: [cells[batch] for batch in sorted(cells)] for key, cells in found.items()}
    return {key: series for key, series in ordered.items() if len(series) > 1}


def _lines(records: Sequence[Record]) -> Markup:
    series = list(_series(records).values())
    shown = series[-SERIES:]
    values = [[(float(one.batch), figure(one, "peak_memory_bytes") or 0.0) for one in row] for row in shown]
    x = doublings("batch, logarithmic", [batch for row in values for batch, _ in row], units.digits)
    y = axis("peak memory, MiB", [_mebibytes(peak) for row in values for _, peak in row], units.digits, zero=True)
    drawn: list[Child] = []
    for kind, (row, cells) in enumerate(zip(shown, values, strict=True)):
        places = [(x.place(batch), y.place(_mebibytes(peak))) for batch, peak in cells]
        drawn.append(line(places, f"series c{kind}"))
        drawn += [point(place, kind, "point", f"{label(one)}, batch {one.batch}: {_peak(one)}")
                  for place, one in zip(places, row, strict=True)]  # fmt: skip
    picture = plot(f"peak memory against batch: {len(shown)} networks", x, y, drawn)
    more = f"{len(series) - len(shown)} older lines are not drawn" if len(series) > len(shown) else None
    note = element("p", {"class": "note"}, more) if more else None
    names = [(kind, label(row[-1])) for kind, row in enumerate(shown)]
    signs = legend(names) or element("p", {"class": "legend"}, names[0][1])
    return element("figure", {}, joined((picture, signs, note)))


def _peak(record: Record) -> str:
    return units.mebibytes(int(figure(record, "peak_memory_bytes") or 0))


def _mebibytes(value: float) -> float:
    return value / 2**20
