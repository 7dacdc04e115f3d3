"""Which cases a bench runs: subjects times ways to compile, and what is measured when nothing is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from metablocks.bench.case import Case
from metablocks.bench.subject import Subject
from metablocks.core.errors import Fault, InputError
from metablocks.core.text import printable

COMPILES = ("none", "block", "model")
MODES = ("infer",)
BATCH = {"cpu": 8, "cuda": 64}
HEADLINE = {"cpu": ("swin_t",), "cuda": ("vit_b16", "mixer_b16", "swin_t", "poolformer_s12")}
MOST_BATCH = 1 << 20


@dataclass(frozen=True)
class Conditions:
    """What all cases of a run share. `batch` None: what suits the device."""

    mode: str = "infer"
    batch: int | None = None
    device: str = "cpu"
    dtype: str = "float32"
    compiles: tuple[str, ...] = ("none", "block")
    seconds: float = 3.0
    limit_s: float = 900.0


def headline(device: str) -> tuple[str, ...]:
    """The shipped specs that are measured when none is named: on a CPU what two cores do in under three minutes."""
    return HEADLINE.get(device.partition(":")[0], HEADLINE["cpu"])


def cases(subjects: Sequence[Subject], conditions: Conditions) -> list[Case]:
    """Every subject under every way to compile, each once. Raises `InputError` or `MissingError` for the conditions."""
    _check(conditions)
    batch = conditions.batch or BATCH.get(conditions.device.partition(":")[0], BATCH["cpu"])
    mode, dtype, device = conditions.mode, conditions.dtype, conditions.device
    return [
        Case(subject, mode, batch, dtype, device, how, conditions.seconds, conditions.limit_s)
        for subject in dict.fromkeys(subjects)
        for how in dict.fromkeys(conditions.compiles)
    ]


def _check(conditions: Conditions) -> None:
    """Every fault of the conditions that can be told before a worker starts."""
    faults = []
    for how in conditions.compiles:
        if how not in COMPILES:
            faults.append(Fault(f"no way to compile called `{printable(how)}`", help="none, block or model"))
    if conditions.mode not in MODES:
        faults.append(Fault(f"no mode called `{printable(conditions.mode)}`", help=", ".join(MODES)))
    if conditions.batch is not None and not 1 <= conditions.batch <= MOST_BATCH:
        faults.append(Fault(f"a batch of {conditions.batch}", help=f"a batch has 1 to {MOST_BATCH:,} images"))
    for name, value in (("seconds", conditions.seconds), ("limit", conditions.limit_s)):
        if not (math.isfinite(value) and value > 0):
            faults.append(Fault(f"--{name} {value}", help="a positive number of seconds"))
    if faults:
        raise InputError(*faults)
    from metablocks.build import device_of, dtype_of  # torch, only for what reads so far

    dtype_of(conditions.dtype)
    device_of(conditions.device)
