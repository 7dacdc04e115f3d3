"""A worker: reads a case, then commands, as lines of JSON on its standard input, and answers on a pipe of its own.

    python -m metablocks.bench.worker FD

Its answers are lines of JSON: what it is doing (`phase`), what a command came to (`done`) or that nothing more can be
had (`failed`: a word and a sentence). A subject may print what it likes on standard output: nobody reads a result
there. When the parent dies, standard input ends, and so does the worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from typing import Any, BinaryIO

from metablocks.bench.case import load

LONGEST = 1 << 26  # bytes of a line


def main() -> None:
    answers = int(sys.argv[1])
    os.set_inheritable(answers, False)
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_follow_parent, args=(_own_input(), lines), daemon=True).start()

    def answer(**told: Any) -> None:
        data = memoryview(f"{json.dumps(told)}\n".encode())
        while data:
            data = data[os.write(answers, data) :]

    case = load(lines.get().decode())
    answer(phase="importing torch")
    from metablocks.bench.failures import explain

    try:
        from metablocks.bench.session import Session

        session = Session(case, lambda phase: answer(phase=phase))
        while not session.over:
            command = json.loads(lines.get())
            answer(done=session.do(command.pop("do"), **command))
    except KeyboardInterrupt:  # dies of the signal, whatever a library has for the end of the interpreter
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except (Exception, SystemExit) as error:
        answer(failed=explain(error, case))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    # what a subject registered to run at exit is no part of the measurement
    os._exit(0)


def _own_input() -> BinaryIO:
    """Standard input under another number. A subject that reads or closes its own finds nothing there to spoil."""
    own = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return own


def _follow_parent(commands: BinaryIO, lines: queue.Queue[bytes]) -> None:
    with contextlib.suppress(OSError):  # a subject may close what is not its own
        while line := commands.readline(LONGEST):
            lines.put(line)
    os.killpg(0, signal.SIGKILL) if os.getpgrp() == os.getpid() else os._exit(1)


if __name__ == "__main__":
    main()
