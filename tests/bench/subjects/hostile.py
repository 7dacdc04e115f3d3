"""Networks that do to their worker what no network should, each from its first call on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, Tensor]


class Doing(nn.Module):
    """A layer that does something else before each call."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self.act, self.layer = act, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_meta:
            self.act()
        return self.layer(x)


def made(act: Callable[[], object]) -> Made:
    return Doing(act), torch.ones(1, 4)


def a_mess() -> Made:
    """Spoils all that a process has and that a measurement must not need, once."""
    done: list[bool] = []

    def act() -> None:
        if done:
            return
        done.append(True)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        os.chdir("/")
        os.umask(0o777)
        sys.stdout.write('{"phase": "lies"}\n{"done": {}}\ngarbage\x1b[2J' * 20_000)
        os.write(1, b"\xff\x00" * 10_000)
        os.write(2, b"\xfe\n" * 10_000)
        children = [subprocess.Popen(["sleep", "600"]).pid, _forked()]
        if "PID_FILE" in os.environ:
            Path(os.environ["PID_FILE"]).write_text(" ".join(map(str, children)))
        sys.stdout = sys.stderr = None
        os.close(1)
        os.close(0)  # which the worker reads its commands from, in another thread

    return made(act)


def _forked() -> int:
    child = os.fork()
    if child == 0:
        while True:
            time.sleep(600)
    return child


def garbage_everywhere() -> Made:
    """Writes on every descriptor that there is, so on the pipe of answers as well."""

    def act() -> None:
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            with contextlib.suppress(OSError):
                os.set_blocking(descriptor, False)
                os.write(descriptor, b"\x00garbage\n{]")

    return made(act)


def no_descriptors() -> Made:
    return made(lambda: os.closerange(0, 1024))


def without_end() -> Made:
    """Allocates and keeps what it allocated."""
    kept: list[Tensor] = []

    def act() -> None:
        while True:
            kept.append(torch.ones(1 << 24))

    return made(act)


def bytes_without_end() -> Made:
    """The same without torch."""
    kept: list[bytearray] = []

    def act() -> None:
        while True:
            kept.append(bytearray(b"1") * (1 << 26))

    return made(act)


def interrupts_itself() -> Made:
    return made(lambda: os.kill(os.getpid(), signal.SIGINT))


def base_exception() -> Made:
    def act() -> None:
        raise GeneratorExit("not even an Exception")

    return made(act)


class Fickle(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if torch.compiler.is_compiling() else x * 2


def another_one_when_compiled() -> Made:
    return Fickle(), torch.ones(1, 4)


def without_end_of_words() -> Made:
    """Prints from a thread for as long as it lives, and is otherwise in order."""

    def talk() -> None:
        while True:
            os.write(1, b"words " * 1000)

    started: list[threading.Thread] = []

    def act() -> None:
        if not started:
            started.append(threading.Thread(target=talk, daemon=True))
            started[0].start()

    return made(act)


def hangs_with_a_child() -> Made:
    """Hangs where it cannot be interrupted by anything but SIGKILL, and has a child that does the same."""

    def act() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
        child = _forked()
        if "PID_FILE" in os.environ:
            Path(os.environ["PID_FILE"]).write_text(f"{os.getpid()} {child}")
        while True:
            time.sleep(600)

    return made(act)
