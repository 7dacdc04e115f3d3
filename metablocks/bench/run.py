"""Runs cases in fresh workers. Whatever a worker does (crash, hang, be killed, print), it ends in a record."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metablocks.bench import clock
from metablocks.bench.case import Case, dump
from metablocks.bench.record import Record, failed, from_data
from metablocks.bench.subject import subject
from metablocks.core.text import printable

if TYPE_CHECKING:
    from metablocks.spec import Spec

ROOT = Path(__file__).resolve().parents[2]
# -P and this: a file called random.py in the user's folder must not become a module of the worker
BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from metablocks.bench.worker import main; main()"
TAIL = 4096  # bytes of what the worker printed that are kept
GRACE_S = 5.0  # for a worker to end by itself after its record
ANSWER = 1 << 26  # bytes that an answer may have

Watch = Callable[[str], None]


def measure(
    source: str | Path | Spec,
    mode: str = "infer",
    batch: int = 8,
    device: str = "cpu",
    dtype: str = "float32",
    compile: str = "none",
) -> Record:
    """The record of one case, measured in a fresh worker. For edits, pass `read(source, set=...)` as the source.

    A case that fails is a record too: see its `status`, `failure` and `reason`. Raises `SpecError` for a spec that
    does not read, `InputError` for a condition that does not exist, `MissingError` where the device is not there.
    """
    from metablocks.bench.suite import Conditions, cases

    conditions = Conditions(mode=mode, batch=batch, device=device, dtype=dtype, compiles=(compile,))
    return run(cases([subject(source)], conditions)[0])


def run(case: Case, watch: Watch = lambda phase: None) -> Record:  # noqa: ARG005
    """The record of a case, from a worker of its own. `watch` hears what the worker is doing."""
    time = clock.stamp()
    with _worker(case) as worker:
        heard = _listen(worker, case, watch)
        code = worker.process.poll()
    if heard.record is not None:
        return heard.record
    failure, reason = _verdict(heard, code, case)
    told = f"{reason}; it said: {_last_lines(heard.tail)}" if heard.tail.strip() else reason
    return replace(failed(case, time, failure, told), environment=heard.environment)


@dataclass
class _Worker:
    """A running worker and the read end of the pipe on which it answers."""

    process: subprocess.Popen[bytes]
    answers: int


@dataclass
class _Heard:
    """What a worker has told so far."""

    phase: str = "starting"
    environment: dict[str, Any] = field(default_factory=dict)
    record: Record | None = None
    garbage: bool = False
    late: bool = False
    tail: bytes = b""
    pending: bytes = b""


@contextmanager
def _worker(case: Case) -> Iterator[_Worker]:
    """A worker that has its case; it and all that it started are gone at the end."""
    answers, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT, str(ROOT), str(theirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs,),
            start_new_session=True,  # Ctrl-C is for the parent to handle
        )
    except BaseException:
        os.close(answers)
        raise
    finally:
        os.close(theirs)
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{dump(case)}\n".encode())
            process.stdin.flush()
        yield _Worker(process, answers)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(answers)
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]


def _listen(worker: _Worker, case: Case, watch: Watch) -> _Heard:
    """Hears a worker out: until it ends, has told its record and had time to end, or its time is over."""
    heard, end = _Heard(), clock.now() + case.limit_s
    assert worker.process.stdout is not None
    printed = worker.process.stdout.fileno()
    with selectors.DefaultSelector() as pipes:
        pipes.register(worker.answers, selectors.EVENT_READ)
        pipes.register(printed, selectors.EVENT_READ)
        while True:
            over = worker.process.poll() is not None
            ready = pipes.select(0 if over else min(0.2, max(0.0, end - clock.now())))
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                if not data:
                    pipes.unregister(key.fd)
                elif key.fd == printed:
                    heard.tail = (heard.tail + data)[-TAIL:]
                else:
                    told = heard.record is not None
                    _take(heard, data, watch)
                    end = min(end, clock.now() + GRACE_S) if heard.record is not None and not told else end
            # all that the worker wrote before its end has been read
            if over and (not ready or not pipes.get_map()):
                return heard
            if clock.now() > end or heard.garbage:
                heard.late = not heard.garbage
                return heard


def _take(heard: _Heard, data: bytes, watch: Watch) -> None:
    """Adds what came on the pipe of answers, line by line."""
    *lines, heard.pending = (heard.pending + data).split(b"\n")
    heard.garbage = heard.garbage or len(heard.pending) > ANSWER
    for line in lines:
        try:
            told = json.loads(line)
            heard.environment = told.get("environment", heard.environment)
            heard.record = from_data(told["record"]) if "record" in told else heard.record
        except (ValueError, AttributeError):
            heard.garbage = True
            return
        if "phase" in told:
            heard.phase = str(told["phase"])
            watch(heard.phase)


def _verdict(heard: _Heard, code: int | None, case: Case) -> tuple[str, str]:
    """A word and a sentence for a worker that told no record."""
    phase = printable(heard.phase)
    if heard.garbage:
        return "garbage", f"the worker's answer is not a record; it was {phase}"
    if heard.late:
        return "timeout", f"stopped after {case.limit_s:g} s while {phase}; raise --limit"
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return "killed", f"the worker was killed by {name} while {phase}{hint}"
    return "crash", f"the worker ended with exit code {code} while {phase} and told no record"


def _last_lines(tail: bytes) -> str:
    lines = [line.strip() for line in tail.decode(errors="replace").splitlines() if line.strip()]
    return printable(" | ".join(lines[-3:]), limit=300)
