"""What went wrong in a worker, as a word for the record and a sentence for the user."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from metablocks.bench.case import Case
from metablocks.core.errors import MetablocksError, MissingError
from metablocks.core.text import printable


class CaseFailedError(Exception):
    """The network ran and must not be timed: a word for the record, and a sentence."""

    def __init__(self, failure: str, reason: str) -> None:
        super().__init__(reason)
        self.failure, self.reason = failure, reason


@contextmanager
def compiling() -> Iterator[None]:
    """Around a first call of what is compiled: what the compiler does not manage is a failure of its own."""
    from metablocks.build import compiling

    try:
        with compiling():
            yield
    except MissingError:
        raise
    except MetablocksError as error:
        raise CaseFailedError("compile_failed", _sentence(error)) from error


def explain(error: BaseException, case: Case) -> tuple[str, str]:
    """A word for the kind of failure, and a sentence for the user."""
    from metablocks.build import out_of_memory

    if isinstance(error, CaseFailedError):
        return error.failure, error.reason
    if isinstance(error, MetablocksError):
        return "missing" if isinstance(error, MissingError) else "error", _sentence(error)
    if out_of_memory(error):
        return "out_of_memory", f"out of memory at batch {case.batch}; use a smaller --batch"
    if isinstance(error, SystemExit):
        return "error", f"the network's code ended the process: SystemExit({printable(str(error.code))})"
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({printable(last[0].filename, limit=0)}:{last[0].lineno})" if last else ""
    print("".join(traceback.format_exception(error)), file=sys.stderr)
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return "error", f"{type(error).__name__}: {printable(first, limit=300)}{where}"


def _sentence(error: MetablocksError) -> str:
    fault = error.faults[0]
    return f"{fault.message}; {fault.help}" if fault.help else fault.message
