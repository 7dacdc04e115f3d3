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
    """Bytes as MiB."""
    return "unknown" if value is None else f"{value / 2**20:,.0f} MiB"


def seconds(value: float | None) -> str:
    """A duration in s, ms or us, three digits."""
    if value is None:
        return "unknown"
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"
