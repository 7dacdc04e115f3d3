"""Bars: ratios of pairs with their intervals, and where the time of a network goes by part of its block.

The text of a bar is HTML beside its drawing, so that on a phone it stands above it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from metablocks.bench.record import Record
from metablocks.bench.report.axes import Axis, axis, percent
from metablocks.bench.report.facts import label, number, positive
from metablocks.bench.report.marks import SHAPES
from metablocks.bench.report.markup import Child, Markup, element, joined
from metablocks.bench.report.pairs import Pair, Pairs, bounds
from metablocks.core import units
from metablocks.core.text import printable
from metablocks.core.units import ratio

VERDICTS = {"better": ("\u25b2", "faster", "better"), "worse": ("\u25bc", "slower", "worse")}
UNSURE = ("\u25c6", "cannot tell", "unsure")
PARTED = 12  # networks whose time is split
ROWS = 200  # parts of one network that are spelled out
BLOCK_PARTS = ("mixer", "mlp", "norm", "residual", "block", "downsample", "stem", "head")
OTHER = len(BLOCK_PARTS)
ROOM = 11.0  # percent of a bar in which a name has room on a wide page


def comparisons(pairs: Pairs) -> Markup | None:
    """A row a pair: who against whom, the ratio from 1 with its interval, the verdict in a word."""
    sound = [pair for pair in pairs.shown if positive(pair.comparison.ratio)]
    if not sound:
        return None
    ends = [value for pair in sound for value in _ends(pair) if positive(value)]
    scale = _around_one(ends)
    rows = [_comparison(pair, scale) for pair in sound]
    more = f"{units.count(pairs.left_out)} older pairs are not shown" if pairs.left_out else None
    note = element("p", {"class": "note"}, more) if more else None
    return joined((element("ol", {"class": "bars"}, _ruler(scale), *rows), note))


def _ends(pair: Pair) -> list[float]:
    return [pair.comparison.ratio, *(bounds(pair) or ())]


def _around_one(values: Sequence[float]) -> Axis:
    """Logarithmic and symmetric in effect: half as fast is as far from 1 as twice as fast."""
    low, high = min(0.97, *values), max(1.03, *values)
    margin = (high / low) ** 0.06
    ends = low / margin, high * margin
    # few ticks, as they have to stand apart on a phone too
    ticks = [tick for tick in axis("", ends, units.digits).ticks if ends[0] < tick < ends[1]]
    kept = [tick for tick in ticks if abs(math.log(tick)) > 0.15 * math.log(ends[1] / ends[0])]
    few = kept[:: max(1, math.ceil(len(kept) / 4))]
    return Axis("", *ends, (1.0, *few), lambda tick: f"{tick:.3g}", log=True)


def _ruler(scale: Axis) -> Markup:
    ticks = [
        element("text", {"class": "tick", "x": percent(scale.place(tick)), "y": 14, "text-anchor": "middle"},
                scale.told(tick))
        for tick in scale.ticks
    ]  # fmt: skip
    drawn = element("svg", {"class": "bar", "height": 18, "aria-hidden": "true"}, *ticks)
    return element("li", {"class": "ruler", "aria-hidden": "true"}, element("span", {}), drawn, element("span", {}))


def _comparison(pair: Pair, scale: Axis) -> Markup:
    sign, word, style = VERDICTS.get(pair.comparison.verdict, UNSURE)
    told = pair.comparison
    interval = bounds(pair)
    spread = f"({ratio(interval[0])} to {ratio(interval[1])})" if interval else "(no interval)"
    text = f"{ratio(told.ratio)} times as fast {spread}"
    one, at = scale.place(1.0), scale.place(told.ratio)
    inside: list[Child] = [
        element("title", {}, f"{text}: {word}"),
        *(_upright("grid", scale.place(tick)) for tick in scale.ticks if tick != 1),
        element("rect", {"class": f"effect {style}", "x": percent(min(one, at)), "y": 8,
                         "width": percent(abs(at - one)), "height": 12}),
        _upright("unity", one),
    ]  # fmt: skip
    if interval:
        inside += _whisker(scale.place(interval[0]), scale.place(interval[1]))
    spot = element("path", {"class": "spot", "d": SHAPES[3]})
    inside.append(element("svg", {"x": percent(at), "y": 14, "class": "mark"}, spot))
    drawn = element("svg", {"class": "bar", "height": 28, "aria-hidden": "true"}, *inside)
    who = element("span", {"class": "who"}, label(pair.other), element("small", {}, f"against {label(pair.base)}"))
    verdict = element("strong", {"class": style}, f"{sign} {word}")
    doubt = ", unstable" if "unstable" in (pair.base.verdict, pair.other.verdict) else ""
    small = element("small", {}, text + doubt)
    return element("li", {}, who, drawn, element("span", {"class": "told"}, verdict, small))


def _whisker(low: float, high: float) -> list[Markup]:
    """A line over the interval, with a foot at each end."""
    strokes = ((low, high, 14, 14), (low, low, 9, 19), (high, high, 9, 19))
    return [
        element("line", {"class": "whisker", "x1": percent(left), "x2": percent(right), "y1": top, "y2": bottom})
        for left, right, top, bottom in strokes
    ]


def _upright(style: str, place: float) -> Markup:
    return element("line", {"class": style, "x1": percent(place), "x2": percent(place), "y1": 0, "y2": 28})


def parts(records: Sequence[Record]) -> Markup | None:
    """A row a network: a bar of its whole time, cut by what the time went to. The newest ones."""
    split = [record for record in records if record.figures and _shares(record)]
    if not split:
        return None
    rows = [_parted(record) for record in split[-PARTED:]]
    left = len(split) - len(rows)
    more = element("p", {"class": "note"}, f"{units.count(left)} older rows are not shown") if left else None
    used = sorted({_colour(what) for record in split[-PARTED:] for what in _shares(record)})
    names = [(*BLOCK_PARTS, "other")[colour] for colour in used]
    signs = [element("li", {}, element("i", {"class": f"swatch p{colour}"}), name)
             for colour, name in zip(used, names, strict=True)]  # fmt: skip
    figures = [table for record in split[-PARTED:] for table in _figures(record)]
    folded = element("details", {}, element("summary", {}, "Every part in figures"), *figures)
    return joined((element("ul", {"class": "legend"}, *signs), element("ol", {"class": "bars"}, *rows), more, folded))


def _rows(record: Record) -> list[dict[str, Any]]:
    return [row for row in record.parts if isinstance(row, dict) and positive(row.get("seconds"))]


def _shares(record: Record) -> dict[str, float]:
    """Seconds by what they went to, the known kinds first and in one order for every network."""
    found: dict[str, float] = {}
    for row in _rows(record):
        what = str(row.get("what"))
        found[what] = found.get(what, 0.0) + row["seconds"]
    return {what: found[what] for what in sorted(found, key=lambda what: (_colour(what), what))}


def _colour(what: str) -> int:
    return BLOCK_PARTS.index(what) if what in BLOCK_PARTS else OTHER


def _parted(record: Record) -> Markup:
    shares = _shares(record)
    total, at = sum(shares.values()), 0.0
    inside: list[Child] = []
    for what, spent in shares.items():
        width = 100 * spent / total
        told = f"{printable(what, 20)} {units.percent(spent / total)}"
        box = {"x": percent(at), "y": 0, "width": percent(width), "height": 28}
        inside.append(element("rect", {"class": f"part p{_colour(what)}", **box},
                              element("title", {}, f"{told}, {units.seconds(spent)}")))  # fmt: skip
        if width > ROOM:
            style = "in" if width > 3 * ROOM else "in wide"
            inside.append(element("text", {"class": style, "x": percent(at + width / 2), "y": 18}, told))
        at += width
    spoken = ", ".join(f"{what} {units.percent(spent / total)}" for what, spent in shares.items())
    drawn = element("svg", {"class": "bar", "height": 28, "role": "img", "aria-label": spoken}, *inside)
    who = element("span", {"class": "who"}, label(record), element("small", {}, f"batch {record.batch}"))
    return element("li", {}, who, drawn, element("span", {"class": "told"}, units.seconds(total)))


COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("time", "seconds", units.seconds),
    ("share", "share", units.percent),
    ("MACs", "macs", units.short),
    ("bytes", "bytes", units.short),
    ("MACs a byte", "intensity_macs_per_byte", units.digits),
    ("of the peak", "share_of_peak", units.percent),
)


def _told(row: dict[str, Any], key: str, show: Callable[[float], str]) -> str:
    value = number(row.get(key))
    return "" if value is None else show(value)


def _figures(record: Record) -> tuple[Markup, Markup]:
    """A heading and a table of every part."""
    rows = _rows(record)[:ROWS]
    columns = [column for column in COLUMNS if any(number(row.get(column[1])) is not None for row in rows)]
    heads = [element("th", {"scope": "col"}, title) for title in ("part", "what", *(one[0] for one in columns))]
    lines = [
        element("tr", {}, element("td", {}, row.get("part", "")), element("td", {}, row.get("what", "")),
                *(element("td", {"class": "number"}, _told(row, key, show)) for _, key, show in columns))
        for row in rows
    ]  # fmt: skip
    name = f"{label(record)}, batch {record.batch}"
    table = element("table", {}, element("thead", {}, element("tr", {}, *heads)), element("tbody", {}, *lines))
    box = {"class": "scroll", "tabindex": 0, "role": "region", "aria-label": f"parts of {name}"}
    return element("h4", {}, name), element("div", box, table)
