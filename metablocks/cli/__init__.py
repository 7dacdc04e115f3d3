"""The command line. Heavy imports stay inside the commands: help must not wait for torch."""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import sys
from types import FrameType

import typer

from metablocks.cli.bench import bench
from metablocks.cli.build import build
from metablocks.cli.catalogue import mixers, specs
from metablocks.cli.compare import compare
from metablocks.cli.evaluate import evaluate
from metablocks.cli.explain import check, explain
from metablocks.cli.report import report
from metablocks.cli.reproduce import reproduce
from metablocks.cli.schema import schema
from metablocks.cli.weights import weights
from metablocks.core.errors import MetablocksError

app = typer.Typer(
    name="metablocks",
    help="A language for MetaFormer vision networks, a compiler for it, and a bench.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
running = (build, evaluate, explain, check, bench, compare, report, reproduce)
for command in (*running, specs, mixers, schema, weights):
    app.command()(command)

INTERRUPTED = 130
SIGNALLED = 128


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """Ends the command as a signal would, but so that workers and temporary folders are gone."""
    signal.signal(number, signal.SIG_IGN)  # a second one would come in the middle of leaving
    sys.exit(SIGNALLED + number)


def main() -> None:
    """Runs the command line.

    Exit codes: 0 ok, 1 failed, 2 bad input, 3 files, 4 some cases failed, 5 slower, 6 missing here.
    """
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _leave)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot spell is no error
    logging.basicConfig(format="%(message)s")
    logging.getLogger("metablocks").setLevel(logging.INFO)
    gc.disable()  # a quarter of the time of a command that imports torch, and no command lives long
    try:
        app(standalone_mode=True)
    except MetablocksError as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # the reader of our output has gone: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    finally:
        gc.enable()
