"""Two sets of records, cell by cell: which is faster, how sure that is, and what else differs between the two."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metablocks.bench import statistics
from metablocks.bench.record import Record
from metablocks.bench.statistics import ALPHA, CANNOT_TELL, NOISE, Comparison
from metablocks.bench.turns import times, unfit
from metablocks.core import units
from metablocks.core.text import printable, side

ENVIRONMENT = {
    "device_name": "device",
    "torch": "torch",
    "python": "Python",
    "metablocks": "metablocks",
    "timm": "timm",
    "torchvision": "torchvision",
    "driver": "driver",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "threads": "threads",
    "cpus": "CPUs",
    "float32_matmul_precision": "float32 matmul precision",
}
"""What a row names where the two sides differ in it, by its key in the record."""

Key = tuple[object, ...]


@dataclass(frozen=True)
class Row:
    """One cell on both sides. `comparison` is None where raw times cannot be compared; `doubts` then tell why."""

    base: Record
    other: Record
    paired: bool
    """Measured round by round in turns, and not at different times."""
    comparison: Comparison | None
    comparable: bool = True
    """False where the two sides ran on different devices: the ratio is one of devices and says nothing of a network."""
    changed: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        return self.comparison.verdict if self.comparison and self.comparable else CANNOT_TELL

    @property
    def decided(self) -> bool:
        """Whether there was enough for a verdict, be it that nobody can tell."""
        return self.comparable and self.comparison is not None and self.comparison.p is not None

    @property
    def memory_ratio(self) -> float | None:
        """Peak memory of the other over the base."""
        return self._ratio("peak_memory_bytes")

    @property
    def latency_ratio(self) -> float | None:
        """Median time of a single image of the other over the base: below 1 the other is faster."""
        return self._ratio("latency_p50_s")

    def _ratio(self, key: str) -> float | None:
        base, other = getattr(self.base.figures, key, None), getattr(self.other.figures, key, None)
        return other / base if base and other is not None else None


@dataclass(frozen=True)
class Lost:
    """A cell that one side could not measure. `regressed`: the base could and the other cannot any more."""

    role: str
    record: Record
    reason: str
    regressed: bool = False


@dataclass(frozen=True)
class Compared:
    """Rows with verdicts that allow for there being several; what was lost; cells that only one side has."""

    rows: tuple[Row, ...]
    lost: tuple[Lost, ...] = ()
    base_only: tuple[Record, ...] = ()
    other_only: tuple[Record, ...] = ()


def compare(base: Sequence[Record], other: Sequence[Record]) -> Compared:
    """`other` against `base`, by cells: what was asked for. The last record of a cell stands for it.

    A network is known by its name and edits. Where no network is on both sides and each side has only one, these two
    are compared with each other.
    """
    shared = _ambiguous(base) | _ambiguous(other)
    named = [{(_subject(one, shared), *_conditions(one)): one for one in records} for records in (base, other)]
    first, second = ({key[0] for key in cells} for cells in named)
    if not first & second and len(first) == len(second) == 1:
        named = _anonymous(named)
    old, new = named
    both = [key for key in old if key in new]
    rows = [compare_pair(old[key], new[key]) for key in both if not (unfit(old[key]) or unfit(new[key]))]
    return Compared(
        rows=tuple(_judged(rows)),
        lost=(*_lost("base", old, new), *_lost("other", new, old)),
        base_only=tuple(record for key, record in old.items() if key not in new and not unfit(record)),
        other_only=tuple(record for key, record in new.items() if key not in old and not unfit(record)),
    )


def compare_pair(base: Record, other: Record) -> Row:
    """The row of two records that went well; its verdict is that of a row that stands alone."""
    together = base.pair is not None and (base.run, base.pair) == (other.run, other.pair) and base.role != other.role
    together = together and len(base.processes) == len(other.processes)
    changed = tuple(_changed(base, other))
    devices = [one.environment.get("device_name", one.device) for one in (base, other)]
    row = Row(base, other, together, None, base.device == other.device and devices[0] == devices[1], changed)
    if base is other or (base.processes == other.processes and base.time == other.time):
        return replace(row, doubts=("both sides are the same measurement",))
    try:
        made = (statistics.paired if together else statistics.unpaired)(times(base), times(other))
    except ValueError as error:
        return replace(row, doubts=(f"the raw times are no times: {error}",))
    return replace(row, comparison=made, doubts=tuple(_doubts(row, made)))


def to_data(compared: Compared) -> dict[str, Any]:
    """Plain data, with units in the keys and without what is unknown."""
    return {
        "rows": [_row_data(row) for row in compared.rows],
        "failed": [_named(one.record) | {"role": one.role, "reason": one.reason} for one in compared.lost],
        "base_only": [_named(record) for record in compared.base_only],
        "other_only": [_named(record) for record in compared.other_only],
    }


def _row_data(row: Row) -> dict[str, Any]:
    seen, base, other = row.comparison, row.base.figures, row.other.figures
    data = _named(row.other) | {
        "base_name": row.base.name,
        "base_images_per_s": base.images_per_s if base else None,
        "other_images_per_s": other.images_per_s if other else None,
        "ratio": seen.ratio if seen else None,
        "ratio_low": seen.low if seen else None,
        "ratio_high": seen.high if seen else None,
        "p": seen.p if seen else None,
        "p_adjusted": seen.p_adjusted if seen else None,
        "verdict": row.verdict,
        "in_turns": row.paired,
        "latency_ratio": row.latency_ratio,
        "memory_ratio": row.memory_ratio,
        "changed": list(row.changed),
        "doubts": list(row.doubts),
    }
    return {key: value for key, value in data.items() if value is not None}


def _named(record: Record) -> dict[str, Any]:
    keys = (
        "name",
        "subject",
        "kind",
        "mode",
        "batch",
        "dtype",
        "device",
        "compile",
        "channels_last",
        "checkpoint",
        "kernels",
    )
    size = _image(record)
    return {key: getattr(record, key) for key in keys} | ({"image": list(size)} if size else {})


def _ambiguous(records: Iterable[Record]) -> set[str]:
    """Names under which one side has several subjects: two files that are called alike."""
    given = defaultdict(set)
    for record in records:
        given[record.name].add(record.subject)
    return {name for name, subjects in given.items() if len(subjects) > 1}


def _subject(record: Record, ambiguous: set[str]) -> Key:
    return record.kind, record.subject if record.name in ambiguous else record.name, record.edits


def _anonymous(named: Sequence[dict[Key, Record]]) -> list[dict[Key, Record]]:
    """Cells without their networks. Each network may have the image that suits it, where it has only one."""
    several = any(len({_image(one) for one in cells.values()}) > 1 for cells in named)
    return [{key[1:] if several else key[1:-1]: one for key, one in cells.items()} for cells in named]


def _conditions(record: Record) -> Key:
    asked = (record.mode, record.batch, record.dtype, record.device, record.compile)
    return *asked, record.channels_last, record.checkpoint, _image(record)


def _image(record: Record) -> tuple[int, int] | None:
    """Height and width; where the worker did not live to tell, those of the spec."""
    if record.image is not None:
        return record.image
    size = ((record.spec or {}).get("image") or {}).get("size")
    return (size[0], size[1]) if isinstance(size, list | tuple) and len(size) == 2 else None


def _lost(role: str, cells: dict[Key, Record], beside: dict[Key, Record]) -> list[Lost]:
    found = [(key, record, reason) for key, record in cells.items() if (reason := unfit(record))]
    return [
        Lost(role, record, reason, role == "other" and key in beside and not unfit(beside[key]))
        for key, record, reason in found
    ]


def _changed(base: Record, other: Record) -> Iterable[str]:
    """What differs besides the network, in words. What one side does not tell is not called different."""
    for key, word in ENVIRONMENT.items():
        one, two = base.environment.get(key), other.environment.get(key)
        if one is not None and two is not None and one != two:
            yield f"{word} {printable(str(one))} -> {printable(str(two))}"
    sizes = _image(base), _image(other)
    if sizes[0] and sizes[1] and sizes[0] != sizes[1]:
        yield f"image {side(sizes[0])} -> {side(sizes[1])}"
    if (base.kind, base.name, base.edits) == (other.kind, other.name, other.edits) and base.digest != other.digest:
        yield from {"spec": ("the spec",), "file": ("the file, or its place",)}.get(base.kind, ())


def _doubts(row: Row, made: Comparison) -> Iterable[str]:
    """What a reader of the row must know, each with the next step where there is one."""
    if not row.comparable:
        yield "on different devices, so the ratio says nothing about the network; measure both on one"
    if made.p is None:
        alone = min(len(row.base.processes), len(row.other.processes)) < 2
        fewer = "measured by one process on a side; use bench --processes 3 or more"
        yield f"no interval: {fewer if alone else 'the processes do not differ at all, so nobody knows how they would'}"
    elif made.p < ALPHA and abs(math.log(made.ratio)) <= math.log1p(NOISE):
        yield f"a difference of less than {units.percent(NOISE)}, which layout and alignment alone can make"
    for letter, record in (("A", row.base), ("B", row.other)):
        if record.verdict == "unstable":
            yield f"unstable in {letter}: {'; '.join(record.warnings) or 'see its record'}"


def _judged(rows: Sequence[Row]) -> list[Row]:
    """Verdicts that hold for all rows together. Rows that get no verdict do not make it harder for the others."""
    fair = [row.comparison if row.comparable else None for row in rows]
    judged = iter(statistics.judged([one for one in fair if one is not None]))
    told = [row if one is None else replace(row, comparison=next(judged)) for row, one in zip(rows, fair, strict=True)]
    return [_corrected(before, after) for before, after in zip(rows, told, strict=True)]


def _corrected(before: Row, after: Row) -> Row:
    if before.verdict == after.verdict:
        return after
    lost = "a difference for this row alone, but with as many rows chance makes some; use bench --processes 5"
    return replace(after, doubts=(*after.doubts, lost))
