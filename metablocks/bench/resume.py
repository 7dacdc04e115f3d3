"""What a results file has already: a bench that is asked to resume leaves that out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from metablocks.bench.case import Case
from metablocks.bench.environment import fingerprint, versions
from metablocks.bench.hand import Hand, Watch, WorkerFailedError
from metablocks.bench.record import Cell, Record, bare, cell
from metablocks.bench.turns import pairs as paired

Pair = tuple[Case, ...]


def remaining(pairs: Sequence[Pair], records: Sequence[Record], watch: Watch) -> list[Pair]:
    """The pairs that `records` do not have under the conditions that are here: the same cells in the same environment.

    A pair is there only if both were measured in turns with each other. What failed is measured again.
    """
    good = [record for record in records if record.status == "ok"]
    there = {(fingerprint(one.environment), cell(one)) for one in good}
    there_together = {(fingerprint(base.environment), cell(base), cell(other)) for base, other in paired(good)}
    if not there or not pairs:
        return list(pairs)
    here = _environment(pairs[0][0], watch)

    def wanted(pair: Pair) -> bool:
        cells = [_cell(case) for case in pair]
        place = fingerprint(here | versions((pair[0].subject.kind,)))
        return (place, *cells) not in there_together if len(cells) == 2 else (place, cells[0]) not in there

    return [pair for pair in pairs if wanted(pair)]


def _cell(case: Case) -> Cell:
    return cell(bare(case, ""))


def _environment(case: Case, watch: Watch) -> dict[str, object]:
    """What a worker sees here. A worker that cannot tell makes everything be measured, and fail there."""
    with tempfile.TemporaryDirectory(prefix="metablocks-") as cache, Hand(case, Path(cache), watch) as hand:
        try:
            return hand.ask("look")["environment"]
        except WorkerFailedError:
            return {}
