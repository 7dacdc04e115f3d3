"""The largest batch that fits, found by throw-away workers: each makes one call at one batch and is gone."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from metablocks.bench.case import Case
from metablocks.bench.hand import Hand, Watch, WorkerFailedError
from metablocks.bench.search import largest_batch
from metablocks.core.errors import Fault, MetablocksError
from metablocks.core.text import printable

START = 8


def fitted(case: Case, watch: Watch) -> Case:
    """The case at the largest batch that fits, tried without a compiler, whose own need is told by the measurement.

    Raises `MetablocksError` where not even one image fits, or where the subject fails for another reason.
    """
    found = largest_batch(lambda batch: fits(replace(case, batch=batch, compile="none"), watch), START)
    if found is None:
        raise MetablocksError(Fault(f"{printable(case.subject.name)}: not even a batch of 1 fits"))
    return replace(case, batch=found)


def fits(case: Case, watch: Watch) -> bool:
    """Whether a worker gets through a call, or a step, at the batch of the case."""
    watch(f"trying a batch of {case.batch}")
    with tempfile.TemporaryDirectory(prefix="metablocks-") as cache:
        try:
            with Hand(case, Path(cache), lambda phase: None) as hand:  # noqa: ARG005
                hand.ask("prepare")
        except WorkerFailedError as error:
            if error.failure in ("out_of_memory", "killed"):
                return False
            raise MetablocksError(
                Fault(f"{printable(case.subject.name)} at batch {case.batch}: {error.reason}")
            ) from error
    return True
