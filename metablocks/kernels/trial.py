"""Which of several ways to compute the same runs here: each is tried where it is to run, and the verdict remembered.

A verdict belongs to a key, a device, our kernels and the versions of torch, Triton and the driver: on another GPU, or
with other versions, everything is tried anew. What cannot be told apart from noise stays with what is named first.
"""

from __future__ import annotations

import hashlib
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from metablocks.core import cache as cache_files
from metablocks.core.text import printable

log = logging.getLogger("metablocks")

CLOSE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""How far a result may be from the twin in float64, over its largest value."""
ROUNDS = 9
BUDGET_S = 2.0
"""Seconds after which no further round begins; three are always made."""
SURE = 0.75
"""The share of rounds in which a candidate has to be faster than one that is named before it."""


@dataclass(frozen=True)
class Verdict:
    """What runs; why others do not, by name; median seconds a call of those that were timed."""

    chosen: str
    faults: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def why_not(self, name: str) -> str:
        """Why a candidate was not chosen; nothing where it was."""
        if name == self.chosen:
            return ""
        timed = {one: f"{1e3 * self.seconds[one]:.3g} ms" for one in (name, self.chosen) if one in self.seconds}
        return self.faults.get(name) or "slower: " + ", ".join(f"{one} {told}" for one, told in timed.items())


_known: dict[tuple[str, str], Verdict] = {}


def choose(
    key: str,
    candidates: Mapping[str, Callable[[], Any]],
    device: torch.device,
    wrong: Callable[[str], str] | None = None,
) -> str:
    """The name of the candidate to take, as `verdict` finds it."""
    return verdict(key, candidates, device, wrong).chosen


def verdict(
    key: str,
    candidates: Mapping[str, Callable[[], Any]],
    device: torch.device,
    wrong: Callable[[str], str] | None = None,
) -> Verdict:
    """The first of `candidates` that is right and that no later one is surely faster than: calls without arguments.

    `wrong` says of a name why it may not be taken, or nothing; that it raises, or its call does, is such a reason too.
    The last is the one to fall back on: it is never asked, and taken where none is left, or where nothing can be tried
    because a CUDA graph is being captured (that is not remembered). What brings a CUDA context down cannot be caught.
    Not for code that is being traced: calls are made and timed.
    """
    place = _place(device)
    if (known := _known.get((place, key)) or _read(place, key, candidates)) is None:
        if _capturing(device):
            return Verdict(list(candidates)[-1], dict.fromkeys(candidates, "a CUDA graph was being captured"))
        known, lasting = _tried(candidates, device, wrong)
        if lasting:
            cache_files.add(_file(place), {key: asdict(known)})
    return _known.setdefault((place, key), known)


def note(key: str, verdict: Verdict, device: torch.device) -> None:
    """Has `choices` tell of what was tried in another way, for this process alone."""
    _known[_place(device), key] = verdict


def choices() -> dict[str, str]:
    """What was chosen in this process, tried or remembered, by key."""
    return {key: known.chosen for (_, key), known in _known.items()}


def forget() -> None:
    """Forgets the verdicts of this process; those on disk stay."""
    _known.clear()


def _tried(
    candidates: Mapping[str, Callable[[], Any]], device: torch.device, wrong: Callable[[str], str] | None
) -> tuple[Verdict, bool]:
    """The verdict, and whether it lasts: what was raised before anything was timed may not be raised next time, when
    a compiler is there, or memory."""
    faults: dict[str, str] = {}
    lasting = True
    *rivals, last = candidates
    for name in rivals:
        try:
            reason = wrong(name) if wrong else ""
            if not reason:
                _seconds(candidates[name], device)
        except Exception as error:  # whatever a compiler, a driver or a library may raise
            reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
            lasting = False
        if reason:
            faults[name] = printable(reason, limit=300)
    left = [name for name in rivals if name not in faults]
    if not left:
        return Verdict(last, faults), lasting
    try:
        rounds = measured({name: candidates[name] for name in (*left, last)}, device)
    except torch.OutOfMemoryError:  # of the last: the others have run
        return Verdict(left[0], faults), False
    timed = {name: statistics.median(times) for name, times in rounds.items()}
    return Verdict(fastest(rounds), faults, timed), not any(why.startswith("OutOfMemory") for why in faults.values())


def _capturing(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    with nullcontext() if device.index is None else torch.cuda.device(device):
        return torch.cuda.is_current_stream_capturing()


def measured(candidates: Mapping[str, Callable[[], Any]], device: torch.device) -> dict[str, list[float]]:
    """Seconds of a call in each round. Candidates take turns, the order of every other round is reversed."""
    for call in candidates.values():
        _seconds(call, device)  # compiles and allocates
    found: dict[str, list[float]] = {name: [] for name in candidates}
    until = time.perf_counter() + BUDGET_S
    for index in range(ROUNDS):
        for name in list(candidates)[:: 1 if index % 2 == 0 else -1]:
            found[name].append(_seconds(candidates[name], device))
        if index >= 2 and time.perf_counter() > until:
            break
    return found


def fastest(rounds: Mapping[str, list[float]]) -> str:
    """The first name, unless a later one was faster in `SURE` of the rounds."""
    first, *others = rounds
    for name in others:
        wins = sum(mine < theirs for mine, theirs in zip(rounds[name], rounds[first], strict=True))
        if wins >= SURE * len(rounds[first]):
            first = name
    return first


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Of one call, on the device's own clock where it has one."""
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    with torch.cuda.device(device):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3


def _read(place: str, key: str, candidates: Mapping[str, Any]) -> Verdict | None:
    entry: Any = cache_files.read(_file(place)).get(key)
    try:
        found = Verdict(**entry)
    except TypeError:  # nothing is there, or something else
        return None
    return found if found.chosen in candidates else None


def _file(place: str) -> str:
    return f"kernels-{hashlib.sha256(place.encode()).hexdigest()[:16]}.json"


@cache
def _place(device: torch.device) -> str:
    """All that a verdict holds for."""
    said = [_sources(), device.type, torch.__version__, _version("triton")]
    if device.type == "cuda":
        driver = getattr(torch._C, "_cuda_getDriverVersion", int)
        said += [torch.cuda.get_device_name(device), str(torch.version.cuda), str(driver())]
    return "\n".join(said)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@cache
def _sources() -> str:
    """Changes with our kernels."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def aside(device: torch.device, keeps: bool) -> Iterator[None]:
    """Around what is tried inside of a call: with gradients or without, whatever the call has, and unseen by activation
    checkpointing, which counts what is saved.

    Not in inference mode, in which nothing has gradients; without autocast, which would round what is compared.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(keeps))
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(saved_tensors_hooks(lambda one: one, lambda one: one))
        yield


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """The same random numbers of a device each time, and none of those that are drawn after."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if cuda else []):
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        else:
            torch.default_generator.manual_seed(0)
        yield


def off(tensor: Tensor) -> bool:
    """Whether a kernel runs untried: in Triton's interpreter, which is there for it, and where trials are off."""
    return not tensor.is_cuda or os.environ.get("METABLOCKS_TRIAL") == "off"


def alike(images: int) -> int:
    """The same for batches that are alike, and so share a verdict."""
    return (images - 1).bit_length()


def far(what: str, found: Tensor, exact: Tensor, dtype: torch.dtype) -> str:
    """That a result in a dtype is far from the exact one; nothing where it is close."""
    if not exact.numel():
        return ""
    error = float((found.double() - exact).abs().max() / exact.abs().max().clamp_min(0.1))
    # not "far where above", so that what is no number is far
    return "" if error <= CLOSE[dtype] else f"{what} is off by {error:.1e} of its largest value"


@cache
def warn(name: str, why: str) -> None:
    """Says once that a kernel does not run."""
    log.warning("%s: %s; plain PyTorch runs in its place", name, why)
