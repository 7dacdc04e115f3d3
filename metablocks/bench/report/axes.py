"""Axes and the frame of a plot. Places along an axis are percents, so that a plot stretches with its page while its
text and its marks keep their size: nothing in here knows how wide the page is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metablocks.bench.report.markup import Child, Markup, element

MOST_TICKS = 7
WIDE_RANGE = 4.0  # values that differ by more than this factor stand on a logarithmic axis


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`; `told` spells a tick out."""

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]
    told: Callable[[float], str]
    log: bool = False

    def place(self, value: float) -> float:
        """Percent of the way along the axis."""
        low, high, at = (math.log(one) if self.log else one for one in (self.low, self.high, value))
        return 100 * (at - low) / (high - low)


def axis(title: str, values: Sequence[float], told: Callable[[float], str], zero: bool = False) -> Axis:
    """An axis around positive values: logarithmic where they differ widely; `zero` starts it there instead."""
    low, high = min(values), max(values)
    if not zero and high > WIDE_RANGE * low:
        bounds = low / 1.15, high * 1.15
        return Axis(f"{title}, logarithmic", *bounds, _decades(*bounds), told, log=True)
    margin = (high - low) * 0.08 or high * 0.1
    bounds = (0.0, high * 1.08) if zero else (max(0.0, low - margin), high + margin)
    return Axis(title, *bounds, _steps(*bounds), told)


def doublings(title: str, values: Sequence[float], told: Callable[[float], str]) -> Axis:
    """A logarithmic axis whose ticks are the values themselves, as for batch sizes."""
    ordered = sorted(set(values))
    ticks = ordered[:: math.ceil(len(ordered) / MOST_TICKS)]
    return Axis(title, ordered[0] / 1.15, ordered[-1] * 1.15, tuple(ticks), told, log=True)


def _decades(low: float, high: float) -> tuple[float, ...]:
    """1, 2 and 5 of every power of ten, or only 1 and 3, or the powers alone: as dense as there is room."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**power for power in powers for digit in digits]
        found = [tick for tick in ticks if low <= tick <= high]
        if len(found) <= MOST_TICKS:
            break
    return tuple(found[:: math.ceil(len(found) / MOST_TICKS)] if found else (low, high))


def _steps(low: float, high: float) -> tuple[float, ...]:
    """Round numbers a step of 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return tuple(step * index for index in range(first, math.floor(high / step) + 1))


def plot(name: str, x: Axis, y: Axis, inside: Sequence[Child]) -> Markup:
    """A frame with its grid, titles and what is drawn inside. `name` is read out in place of the picture."""
    drawn = element("svg", {"role": "img", "aria-label": name}, *_grid(x, y), *inside)
    return element(
        "div",
        {"class": "plot"},
        element("p", {"class": "y-title"}, y.title),
        element("div", {"class": "frame"}, drawn),
        element("p", {"class": "x-title"}, x.title),
    )


def trimmed(text: str) -> str:
    """A tick is a round number, so the zeros behind its point say nothing: `2 G` for `2.00 G`."""
    return re.sub(r"(\.\d*?)0+(?=\D|$)", r"\1", text).replace(". ", " ").removesuffix(".")


def percent(value: float) -> str:
    return f"{value:.2f}%"


def _grid(x: Axis, y: Axis) -> list[Markup]:
    found: list[Markup] = []
    for tick in y.ticks:
        at = percent(100 - y.place(tick))
        found.append(element("line", {"class": "grid", "x1": "0%", "x2": "100%", "y1": at, "y2": at}))
        found.append(element("text", {"class": "tick", "x": "0%", "y": at, "dx": -8, "dy": 4, "text-anchor": "end"},
                             trimmed(y.told(tick))))  # fmt: skip
    for tick in x.ticks:
        at = percent(x.place(tick))
        found.append(element("line", {"class": "grid", "x1": at, "x2": at, "y1": "0%", "y2": "100%"}))
        found.append(element("text", {"class": "tick", "x": at, "y": "100%", "dy": 18, "text-anchor": "middle"},
                             trimmed(x.told(tick))))  # fmt: skip
    return found


def line(places: Sequence[tuple[float, float]], style: str) -> Markup:
    """A line through places in percent; its width does not stretch."""
    through = " ".join(f"{across:.2f},{100 - up:.2f}" for across, up in places)
    box = {"viewBox": "0 0 100 100", "preserveAspectRatio": "none", "width": "100%", "height": "100%"}
    return element("svg", box, element("polyline", {"class": style, "points": through}))
