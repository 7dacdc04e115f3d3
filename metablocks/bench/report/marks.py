"""Marks of points, each a shape and a colour, so that nothing is told by colour alone; and where labels have room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metablocks.bench.report.axes import percent
from metablocks.bench.report.markup import Markup, element

SHAPES = (
    "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0 -5 0Z",  # circle
    "M-4.5 -4.5H4.5V4.5H-4.5Z",  # square
    "M0 -6L5.5 4.5H-5.5Z",  # triangle
    "M0 -6L6 0L0 6L-6 0Z",  # diamond
    "M0 6L5.5 -4.5H-5.5Z",  # triangle on its point
    "M-6 -2H-2V-6H2V-2H6V2H2V6H-2V2H-6Z",  # cross
    "M0 -6.5L6.2 -2L3.8 5.3H-3.8L-6.2 -2Z",  # pentagon
    "M-6 -3H6V3H-6Z",  # bar
)
SIDES = ((9, 4, "start"), (-9, 4, "end"), (0, -10, "middle"), (0, 19, "middle"))
LETTER, LINE = 6.6, 15.0  # pixels of a label's letter and line

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Label:
    """Beside its point: shift in pixels and anchor. `wide`: only where the page is."""

    dx: float
    dy: float
    anchor: str
    wide: bool


def shape(kind: int, style: str) -> Markup:
    return element("path", {"class": f"{style} c{kind % len(SHAPES)}", "d": SHAPES[kind % len(SHAPES)]})


def point(place: tuple[float, float], kind: int, style: str, told: str) -> Markup:
    """A mark at a place in percent, with what a pointer over it is told."""
    where = {"x": percent(place[0]), "y": percent(100 - place[1]), "class": "mark"}
    return element("svg", where, element("title", {}, told), shape(kind, style))


def legend(entries: Sequence[tuple[int, str]]) -> Markup | None:
    """What the shapes mean; nothing where there is but one."""
    if len(entries) < 2:
        return None
    signs = (
        element("li", {}, element("svg", {"viewBox": "-8 -8 16 16", "aria-hidden": "true"}, shape(kind, "point")), name)
        for kind, name in entries
    )
    return element("ul", {"class": "legend"}, *signs)


def labels(
    points: Sequence[tuple[float, float]], texts: Sequence[str], sizes: tuple[tuple[float, float], tuple[float, float]]
) -> list[Label | None]:
    """A side for each label on which it covers no label and no point, first come first served, or None.

    Places are percents; `sizes` are the width and height of the plot in pixels on a wide page and on a phone. Texts
    that are empty get no label, but their points are in the way.
    """
    wide, narrow = (_boxes(points, size) for size in sizes)
    found: list[Label | None] = []
    for index, text in enumerate(texts):
        found.append(None)
        for dx, dy, anchor in SIDES if text else ():
            box, small = (_box(points[index], text, size, (dx, dy, anchor)) for size in sizes)
            if not _free(box, wide, sizes[0], index):
                continue
            fits = _free(small, narrow, sizes[1], index)
            wide.append(box)
            if fits:
                narrow.append(small)
            found[-1] = Label(dx, dy, anchor, wide=not fits)
            break
    return found


def _boxes(points: Sequence[tuple[float, float]], size: tuple[float, float]) -> list[Box]:
    places = [(across * size[0] / 100, (100 - up) * size[1] / 100) for across, up in points]
    return [(x - 6, y - 6, x + 6, y + 6) for x, y in places]


def _box(place: tuple[float, float], text: str, size: tuple[float, float], at: tuple[float, float, str]) -> Box:
    x, y = place[0] * size[0] / 100 + at[0], (100 - place[1]) * size[1] / 100 + at[1]
    width = LETTER * len(text)
    left = x - {"start": 0.0, "end": width, "middle": width / 2}[at[2]]
    return left, y - LINE + 3, left + width, y + 3


def _free(box: Box, others: Sequence[Box], size: tuple[float, float], own: int) -> bool:
    """Whether a label is inside the plot and on nothing but its own point."""
    inside = box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] + 12 and box[3] <= size[1]
    return inside and not any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
        for index, other in enumerate(others)
        if index != own
    )
