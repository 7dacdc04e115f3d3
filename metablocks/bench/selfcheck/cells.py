"""S3, S4, S7, S10, S11, S14: cases in workers whose records have to say what is known about them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median

from metablocks.bench.outcome import ROOM
from metablocks.bench.record import Process, Record
from metablocks.bench.selfcheck.check import Check
from metablocks.bench.selfcheck.lab import Lab, NotMeasuredError
from metablocks.bench.selfcheck.subjects import HOARD_BYTES
from metablocks.bench.turns import times
from metablocks.core import units

PLAUSIBLE = (
    0.4  # of the measured peak, that large products reach in their best round: a peak is the best of rounds, too
)
NEAR = 0.02
SAME = 0.1  # best rounds of two processes: memory is laid out anew in each
REPORT = "report it, with this printout"


def roofline(lab: Lab) -> Check:
    """No record of this self-check is faster than the device."""
    shares = {record.name: share for record in lab.records if (share := _share(record)) is not None}
    if not shares:
        raise NotMeasuredError("no record tells FLOP/s and the peak of the device")
    worst = max(shares, key=lambda name: shares[name])
    return Check(
        f"{units.percent(shares[worst])} of the peak at most, by {worst.rpartition(':')[2]}",
        "no record here is over the measured peak by 2 %",
        shares[worst] <= ROOM,
        "close other programs and run it again: a peak measured while others run is too low",
        {"largest_share_of_peak": shares[worst]},
    )


def known_matmul(lab: Lab) -> Check:
    """Products reach a plausible share of what the device can do."""
    found = [record for record in lab.records if record.name.endswith("products")]
    shares = [share for record in found or lab.measured(lab.products()) if (share := _best_share(record)) is not None]
    if not shares:
        raise NotMeasuredError("no record tells FLOPs and the peak of the device")
    share = max(shares)
    return Check(
        f"{units.percent(share)} of the peak",
        "products reach 40 % of it",
        share >= PLAUSIBLE,
        "machine busy or throttled: close other programs, see its clocks and its temperature",
        {"share_of_peak": share},
    )


def _share(record: Record) -> float | None:
    """Achieved FLOP/s over the peak of its dtype."""
    peak = record.peaks.get(f"peak_flops_per_s_{record.dtype}")
    if peak is None or record.figures is None or not record.figures.flops_per_s:
        return None
    return record.figures.flops_per_s / peak


def _best_share(record: Record) -> float | None:
    share = _share(record)
    if share is None or record.figures is None:
        return None
    best = min(spent for process in times(record) for spent in process)
    return share / (best * record.figures.images_per_s)


def dead_code(lab: Lab) -> Check:
    """A subject that is counted and does nothing."""
    found = lab.run(lab.case("shirker", batch=8, seconds=0.1))
    # it is no measurement of this device, and must not count as one
    lab.records = [record for record in lab.records if record not in found]
    verdict = found[0].verdict or f"failed: {found[0].reason}"
    return Check(
        f"its record is {verdict}",
        "work that is claimed and not done: invalid",
        verdict == "invalid",
        f"{REPORT}: missing work is not noticed here",
    )


def compile_accounts(lab: Lab) -> Check:
    """The compiler's time is told apart, less from a warm cache, and changes no steady time."""
    (record,) = lab.measured(lab.case("compilable", batch=8, compile="model", processes=2))
    first, second = record.processes
    if first.compile_s is None or second.compile_s is None:
        raise NotMeasuredError("the record tells no time of the compiler")
    best = [min(process) for process in times(record)]
    alike = max(best) <= (1 + SAME) * min(best)
    adds_up = all(_adds_up(process) for process in record.processes)
    caches = first.compile_cache, second.compile_cache
    return Check(
        f"{units.seconds(first.compile_s)} {caches[0]}, {units.seconds(second.compile_s)} {caches[1]}; "
        f"calls {units.seconds(best[0])}, {units.seconds(best[1])}",
        "second process: compiles less, as fast; times add up",
        caches == ("cold", "warm") and second.compile_s < first.compile_s and alike and adds_up,
        "close other programs and run it again; see TORCHINDUCTOR_FORCE_DISABLE_CACHES",
        {"compile_cold_s": first.compile_s, "compile_warm_s": second.compile_s},
    )


def _adds_up(process: Process) -> bool:
    """The rounds are part of the loop that they were timed in; the first call is the compiler and one steady call."""
    call_s = median(process.rounds_s) / process.calls_per_round
    return sum(process.rounds_s) <= process.wall_s and (process.compile_s or 0.0) + call_s <= 1.1 * process.first_call_s


def miscompiled(lab: Lab) -> Check:
    """A compiler that changes the outputs."""
    (record,) = lab.run(lab.case("miscompiled", batch=8, compile="model"))
    if record.failure == "missing":
        raise NotMeasuredError(str(record.reason), missing=True)
    timed = record.figures is not None or bool(record.processes)
    return Check(
        f"{record.failure or 'no failure'}, {'timed' if timed else 'no time told'}",
        "wrong outputs: the row says so and has no time",
        record.failure == "mismatch" and not timed,
        f"{REPORT}: wrong outputs are not noticed here",
    )


def memory(lab: Lab) -> Check:
    """256 MiB raise the peak by 256 MiB, and stay with their worker."""
    heavy, light = lab.measured(lab.case("hoard", seconds=0.2), lab.case("pause", seconds=0.2))
    assert heavy.figures and light.figures
    peak, other = heavy.figures.peak_memory_bytes, light.figures.peak_memory_bytes
    if peak is None or other is None:
        raise NotMeasuredError("peak memory is not measured on this system", missing=True)
    return Check(
        f"{units.mebibytes(peak)}; {units.mebibytes(other)} beside it",
        "256 MiB within 2 %, and not in the next worker",
        abs(peak / HOARD_BYTES - 1) <= NEAR and other <= NEAR * HOARD_BYTES,
        "see docs/self-check.md: other allocators keep what is freed; unset LD_PRELOAD and MALLOC_ variables",
        {"peak_memory_bytes": peak, "other_peak_memory_bytes": other},
    )


def disturbed(lab: Lab) -> Check:
    """Programs that take half of the processors, or one on a small machine, must not go unnoticed."""
    case = replace(lab.products(), seconds=0.5)
    with hogs(max(1, (os.cpu_count() or 1) // 2)):
        (record,) = lab.measured(case)
    # they are not what this machine can do
    lab.records.remove(record)
    share = max((process.foreign_cpu_share or 0.0 for process in record.processes), default=0.0)
    if all(process.foreign_cpu_share is None for process in record.processes):
        raise NotMeasuredError("this system does not tell how busy its processors are", missing=True)
    return Check(
        f"{record.verdict}; others took {units.percent(share)} of the processors",
        "beside busy programs a record is unstable",
        record.verdict == "unstable" and any(text.startswith("other programs") for text in record.warnings),
        f"{REPORT}: close other programs yourself, for the bench does not see them here",
        {"foreign_cpu_share": share},
    )


@contextmanager
def hogs(many: int) -> Iterator[None]:
    """Programs that do nothing but keep processors busy. They end with this one, however it ends."""
    # standard input ends with us; a hog looks at it between two stretches of work
    code = "import select, sys\nwhile not select.select([sys.stdin], [], [], 0)[0]:\n    sum(range(200_000))"
    started: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(many):
            started.append(subprocess.Popen([sys.executable, "-I", "-c", code], stdin=subprocess.PIPE))
        yield
    finally:
        for one in started:
            one.kill()
            one.wait()
            with contextlib.suppress(OSError):
                one.stdin.close()  # type: ignore[union-attr]
