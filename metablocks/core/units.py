"""The only place that rounds: counts, bytes and times as text."""

from __future__ import annotations


def count(value: int | None) -> str:
    """An exact count with separators: 28,288,354; `unknown` where it is not known."""
    return "unknown" if value is None else f"{value:,}"


def short(value: float | None, unit: str = "") -> str:
    """Three or four digits and a decimal prefix: 4.49 G."""
    if value is None:
        return "unknown"
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.2f} {prefix}{unit}"
    return f"{value:.0f} {unit}".rstrip()


def mebibytes(value: int | None) -> str:
    """Bytes as MiB, with one digit below ten."""
    if value is None:
        return "unknown"
    amount = value / 2**20
    return f"{amount:,.0f} MiB" if amount >= 10 else f"{amount:.1f} MiB"


def seconds(value: float | None) -> str:
    """A duration in s, ms or us, three digits."""
    if value is None:
        return "unknown"
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= factor:
            return f"{digits(value / factor)} {unit}"
    return f"{value * 1e9:.3g} ns"


def digits(value: float) -> str:
    """Three digits, or as many as stand before the point: 0.064, 1.2, 64.9, 1,234."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def rate(value: float) -> str:
    """A rate by its size: 1,234, 123.4, 12.34."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def ratio(value: float) -> str:
    """A ratio, with three digits behind the point below ten: 1.034."""
    return f"{value:.3f}" if value < 9.9995 else digits(value)


def percent(value: float) -> str:
    """A share as percent, one digit below ten: 3.2 %, 15 %."""
    return f"{100 * value:.1f} %" if abs(value) < 0.0995 else f"{100 * value:.0f} %"
