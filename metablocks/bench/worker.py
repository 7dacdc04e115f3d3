"""A worker: reads one case as a line of JSON on its standard input, and answers on a pipe of its own.

    python -m metablocks.bench.worker FD < case.json

Its answers are lines of JSON: what it is doing, where it runs, and at the end the record. A subject may print what it
likes on standard output: nobody reads a result there. When the parent dies, standard input ends, and so
does the worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from typing import Any

from metablocks.bench.case import load


def main() -> None:
    answers = int(sys.argv[1])
    os.set_inheritable(answers, False)
    case = load(sys.stdin.buffer.readline().decode())
    threading.Thread(target=_follow_parent, daemon=True).start()

    def answer(**told: Any) -> None:
        data = memoryview(f"{json.dumps(told)}\n".encode())
        while data:
            data = data[os.write(answers, data) :]

    answer(phase="importing torch")
    from metablocks.bench.environment import environment
    from metablocks.bench.measuring import measure_case
    from metablocks.bench.record import to_data

    found = environment(case.device)
    answer(environment=found)
    record = measure_case(case, found, lambda phase: answer(phase=phase))
    answer(record=to_data(record))
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    # what a subject registered to run at exit is no part of the measurement
    os._exit(0)


def _follow_parent() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os.killpg(0, signal.SIGKILL) if os.getpgrp() == os.getpid() else os._exit(1)


if __name__ == "__main__":
    main()
