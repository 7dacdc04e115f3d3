"""A worker as its parent holds it: started, asked, stopped. Whatever it does, asking ends in an answer or a reason."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from metablocks.bench import clock
from metablocks.bench.case import Case, dump
from metablocks.core.text import printable

ROOT = Path(__file__).resolve().parents[2]
# -P and this: a file called random.py in the user's folder must not become a module of the worker
BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from metablocks.bench.worker import main; main()"
TAIL = 4096  # bytes of what the worker printed that are kept
ANSWER = 1 << 26  # bytes that an answer may have

Watch = Callable[[str], None]


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Whoever presses Ctrl-C a second time does not keep a worker or a folder from being cleared away."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class WorkerFailedError(Exception):
    """Nothing more can be had from a worker: a word and a sentence."""

    def __init__(self, failure: str, reason: str) -> None:
        super().__init__(reason)
        self.failure, self.reason = failure, reason


class Hand:
    """A running worker with its case. Use as a context: it and all that it started are gone at the end.

    `cache` is the folder of its compiler's cache. `left_s` is what is left of the time that it may take.
    """

    def __init__(self, case: Case, cache: Path, watch: Watch) -> None:
        self.case, self.watch, self.left_s, self.phase = case, watch, case.limit_s, "starting"
        self.tail, self.pending = b"", b""
        self.answers, theirs = os.pipe()
        places = {"TORCHINDUCTOR_CACHE_DIR": str(cache), "TRITON_CACHE_DIR": str(cache / "triton")}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", BOOT, str(ROOT), str(theirs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs,),
                start_new_session=True,  # Ctrl-C is for the parent to handle
                env=os.environ | places,
            )
        except BaseException:
            os.close(self.answers)
            raise
        finally:
            os.close(theirs)
        self._say(dump(case))

    def __enter__(self) -> Hand:
        return self

    def __exit__(self, *exception: object) -> None:
        with undisturbed():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            os.close(self.answers)
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]

    def ask(self, do: str, **said: Any) -> dict[str, Any]:
        """What a command came to. Raises `WorkerFailedError` where there is no answer, for whatever reason."""
        start = clock.now()
        try:
            self._say(json.dumps({"do": do, **said}))
            told = self._hear()
        finally:
            self.left_s -= clock.now() - start
        if "failed" in told:
            failure, reason = told["failed"]
            raise WorkerFailedError(str(failure), str(reason))
        return dict(told["done"])

    def turn_to(self, phase: str) -> None:
        """What the worker is asked next, where its telling so itself would cost time that is measured."""
        if phase != self.phase:
            self.phase = phase
            self.watch(phase)

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        """The next answer, while what the worker prints is read as well."""
        end = clock.now() + self.left_s
        assert self.process.stdout is not None
        printed = self.process.stdout.fileno()
        with selectors.DefaultSelector() as pipes:
            pipes.register(self.answers, selectors.EVENT_READ)
            pipes.register(printed, selectors.EVENT_READ)
            while True:
                over = self.process.poll() is not None
                ready = pipes.select(0 if over else min(0.2, max(0.0, end - clock.now())))
                for key, _ in ready:
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        pipes.unregister(key.fd)
                    elif key.fd == printed:
                        self.tail = (self.tail + data)[-TAIL:]
                    else:
                        told = self._take(data)
                        if told is not None:
                            return told
                # all that the worker wrote before its end has been read
                if over and (not ready or not pipes.get_map()):
                    raise self._ended()
                if clock.now() > end:
                    late = f"stopped after {self.case.limit_s:g} s while {printable(self.phase)}; raise --limit"
                    raise self._failed("timeout", late)

    def _take(self, data: bytes) -> dict[str, Any] | None:
        """Adds what came on the pipe of answers; the answer, once it is whole. There is one to a question."""
        *lines, self.pending = (self.pending + data).split(b"\n")
        if len(self.pending) > ANSWER:
            raise self._garbage()
        for line in lines:
            try:
                told = json.loads(line)
                if "phase" not in told:
                    if not isinstance(told.get("done"), dict) and len(told["failed"]) != 2:
                        raise self._garbage()
                    return dict(told)
                self.phase = str(told["phase"])
            except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
                raise self._garbage() from None
            self.watch(self.phase)
        return None

    def _garbage(self) -> WorkerFailedError:
        return self._failed("garbage", f"the worker's answer is not one; it was {printable(self.phase)}")

    def _ended(self) -> WorkerFailedError:
        """A word and a sentence for a worker that ended without an answer."""
        code, phase = self.process.returncode, printable(self.phase)
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            hint = " (out of memory?)" if -code == signal.SIGKILL else ""
            return self._failed("killed", f"the worker was killed by {name} while {phase}{hint}")
        return self._failed("crash", f"the worker ended with exit code {code} while {phase} and told no more")

    def _failed(self, failure: str, reason: str) -> WorkerFailedError:
        lines = [line.strip() for line in self.tail.decode(errors="replace").splitlines() if line.strip()]
        said = printable(" | ".join(lines[-3:]), limit=300)
        return WorkerFailedError(failure, f"{reason}; it said: {said}" if said else reason)
