"""Under which conditions subjects are measured, and which of them cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from metablocks.bench.case import COMPILES, DTYPES, KERNELS, MODES, Case
from metablocks.core.errors import Fault, InputError
from metablocks.core.text import did_you_mean, listed, printable, side

MOST_BATCH = 1 << 20
MOST_CASES = 1000
MOST_PROCESSES = 100
MOST_PIXELS = 1 << 20


@dataclass(frozen=True)
class Conditions:
    """The choices of one run: a case for each combination. `images` (H, W) in pixels; none: each subject's own.

    `kernels`: None lets the device choose.
    """

    modes: tuple[str, ...] = (Case.mode,)
    batches: tuple[int, ...] = (Case.batch,)
    images: tuple[tuple[int, int], ...] = ()
    dtypes: tuple[str, ...] = (Case.dtype,)
    compiles: tuple[str, ...] = (Case.compile,)
    device: str = Case.device
    channels_last: bool = Case.channels_last
    checkpoint: bool | float = Case.checkpoint
    seconds: float = Case.seconds
    processes: int = Case.processes
    limit_s: float = Case.limit_s
    modules: tuple[str, ...] = Case.modules
    kernels: str | None = Case.kernels


def faults(conditions: Conditions) -> Iterator[Fault]:
    """Every fault of the conditions that can be told before a worker starts, but for the device."""
    yield from _unknown("mode", conditions.modes, MODES)
    yield from _unknown("dtype", conditions.dtypes, DTYPES)
    yield from _unknown("way to compile", conditions.compiles, COMPILES)
    if conditions.kernels is not None:
        yield from _unknown("path of kernels", (conditions.kernels,), KERNELS)
    if not conditions.batches:
        yield Fault("no batch given", help="give one number of images, or several")
    for batch in dict.fromkeys(conditions.batches):
        if not 1 <= batch <= MOST_BATCH:
            yield Fault(f"a batch of {batch:,}", help=f"a batch has 1 to {MOST_BATCH:,} images")
    for image in dict.fromkeys(conditions.images):
        if not all(1 <= pixels <= MOST_PIXELS for pixels in image):
            yield Fault(f"an image of {side(image)} px", help=f"a side has 1 to {MOST_PIXELS:,} pixels")
    for name, seconds in (("seconds", conditions.seconds), ("limit", conditions.limit_s)):
        if not (math.isfinite(seconds) and seconds > 0):
            yield Fault(f"`{name}` of {seconds:g}", help="give a positive number of seconds")
    if not 1 <= conditions.processes <= MOST_PROCESSES:
        yield Fault(f"{conditions.processes:,} processes", help=f"a case has 1 to {MOST_PROCESSES} worker processes")
    if conditions.checkpoint and set(conditions.modes) == {"infer"}:
        wrong = "activation checkpointing saves memory for a backward pass, and mode `infer` has none"
        yield Fault(wrong, help="leave out `checkpoint`, or use mode `train` or `pretrain`")
    if not isinstance(conditions.checkpoint, bool):
        yield from _share(conditions.checkpoint, conditions.compiles)
    if conditions.device.startswith("mps") and "float64" in conditions.dtypes:
        yield Fault("the device `mps` has no float64", help="use float32")


def _share(kept: float, compiles: Sequence[str]) -> Iterator[Fault]:
    if not 0 < kept < 1:
        yield Fault(f"a share of {kept:g} of the activations", help="between 0 and 1")
    if "none" in compiles:
        wrong = "a compiler keeps a share of the activations, and `none` compiles nothing"
        yield Fault(wrong, help="use --compile block, or --checkpoint block")


def check_size(subjects: int, conditions: Conditions) -> None:
    """Raises `InputError` where so many subjects make more cases than a run may have."""
    lists: Sequence[Sequence[object]] = (
        conditions.modes,
        conditions.batches,
        conditions.images or (None,),
        conditions.dtypes,
        conditions.compiles,
    )
    cases = subjects * math.prod(len(set(values)) for values in lists)
    if cases > MOST_CASES:
        help = "measure fewer subjects, batches, images, dtypes or ways to compile at a time"
        raise InputError(Fault(f"{cases:,} cases, and a run has at most {MOST_CASES:,}", help=help))


def _unknown(what: str, given: Sequence[str], known: Sequence[str]) -> Iterator[Fault]:
    if not given:
        yield Fault(f"no {what} given", help=listed(known, "or"))
    for word in dict.fromkeys(given):
        if word not in known:
            help = did_you_mean(word, known) or listed(known, "or")
            yield Fault(f"no {what} called `{printable(word)}`", help=help)
