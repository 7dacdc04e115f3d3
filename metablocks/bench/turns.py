"""Records that were measured in turns, as what they can be compared by: times per image, process by process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from metablocks.bench.record import Record


def pairs(records: Iterable[Record]) -> list[tuple[Record, Record]]:
    """Base and other of each pair that went well on both sides, by as many processes."""
    roles: dict[object, dict[str, Record]] = defaultdict(dict)
    for record in records:
        if record.pair is not None and record.role is not None:
            roles[record.run, record.pair][record.role] = record
    found = [(one["base"], one["other"]) for one in roles.values() if {"base", "other"} <= one.keys()]
    good = [(base, other) for base, other in found if not (unfit(base) or unfit(other))]
    return [(base, other) for base, other in good if len(base.processes) == len(other.processes) > 0]


def times(record: Record) -> list[list[float]]:
    """Seconds for an image, by process and round."""
    return [[spent / one.calls_per_round / record.batch for spent in one.rounds_s] for one in record.processes]


def unfit(record: Record) -> str:
    """Why a record has no times that could be compared; empty where it has."""
    if record.status != "ok" or record.figures is None:
        return record.reason or "failed, and no reason told"
    if record.verdict == "invalid":
        return f"invalid: {'; '.join(record.warnings) or 'no reason told'}"
    return ""
