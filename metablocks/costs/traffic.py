"""What a call of a network does, shared out among its modules: a meter is read wherever one of them begins or ends.

What a meter shows between two readings belongs to the innermost module that is being watched and runs, and outside all
of them to `REST`. So the shares always add up to the whole, whatever is measured: seconds, multiply-accumulates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metablocks.costs.run import Observer, plain_layers

Key = tuple[str, str, str]
"""Where in the network, what it is, its name."""
REST: Key = ("other", "other", "")


@dataclass(frozen=True)
class Watched:
    """A module and the key that its share is added to. Several may have one key."""

    module: nn.Module
    key: Key


class Tape:
    """The readings of one call, each with the key that is running from there on."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self.read = read
        self.open = [REST]
        self.readings: list[tuple[Key, Any]] = []

    def run(self, call: Callable[[], object]) -> None:
        """Calls with a reading at the beginning and at the end."""
        self.readings.append((REST, self.read()))
        call()
        self.readings.append((REST, self.read()))

    def enter(self, key: Key) -> None:
        """From here on `key` runs."""
        self.open.append(key)
        self.readings.append((key, self.read()))

    def leave(self) -> None:
        """From here on what was running before goes on."""
        self.open.pop()
        self.readings.append((self.open[-1], self.read()))

    def intervals(self) -> Iterator[tuple[Key, Any, Any]]:
        """Key, reading at the beginning, reading at the end."""
        for (key, first), (_, last) in zip(self.readings, self.readings[1:], strict=False):
            yield key, first, last


@contextmanager
def watching(watched: Sequence[Watched], tape: Tape) -> Iterator[None]:
    """While this lasts, every call of a watched module is on the tape."""
    with ExitStack() as hooks:
        for one in watched:
            before = one.module.register_forward_pre_hook(lambda *_, key=one.key: tape.enter(key))
            hooks.callback(before.remove)
            hooks.callback(one.module.register_forward_hook(lambda *_: tape.leave()).remove)
        yield


def macs(net: Callable[..., object], inputs: Sequence[Tensor], watched: Sequence[Watched]) -> dict[Key, int | None]:
    """Multiply-accumulates by key, by the counter of `metablocks.costs.run`; `net` and `inputs` are on meta.

    None where an operation is unknown to the counter. The sum is that of the network.
    """
    seen = Observer()

    def read() -> tuple[int, tuple[str, ...]]:
        unknown = tuple(seen.unknown)
        seen.unknown.clear()  # each reading tells of the operations since the last one
        return seen.macs, unknown

    tape = Tape(read)
    with torch.inference_mode(), plain_layers(), watching(watched, tape), seen:
        tape.run(lambda: net(*inputs))
    counted: dict[Key, int | None] = {}
    for key, (before, _), (after, unknown) in tape.intervals():
        known = counted.get(key, 0)
        counted[key] = None if unknown or known is None else known + after - before
    return counted


def least_bytes(call: Callable[[], object], watched: Sequence[Watched]) -> dict[Key, int]:
    """Bytes by key that a call has to move at the least: inputs and parameters read once, outputs written once.

    Of a module with watched ones inside, what it does itself: its input and the last output inside are read, its own
    parameters too, its output is written. Nothing is known of the rest.
    """
    moved: dict[Key, int] = {}
    running: list[int] = []  # bytes that were written last inside each module that runs
    keys = {one.module: one.key for one in watched}

    def enter(*_: Any) -> None:
        running.append(0)

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        inside, written = running.pop(), size(output)
        moved[keys[module]] = moved.get(keys[module], 0) + size(inputs) + inside + written
        moved[keys[module]] += size(list(module.parameters(recurse=not inside)))
        if running:
            running[-1] = written

    with ExitStack() as hooks:
        for module in keys:
            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        call()
    return moved


def size(value: Any) -> int:
    """Bytes of the tensors in a value: a tensor, or a list, tuple or mapping of values. Everything else has none."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(size, value.values()))
    return sum(map(size, value)) if isinstance(value, list | tuple) else 0
