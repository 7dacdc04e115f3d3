"""Faults with places: what is wrong in the user's words, where, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from metablocks.core.text import cells, printable

SHOWN = 20  # faults that one message spells out; the rest are counted


@dataclass(frozen=True)
class Source:
    """A text that came from outside: a file, a Python string, or with `flag` what follows a flag of the command."""

    name: str
    text: str
    flag: bool = False

    @cached_property
    def lines(self) -> list[str]:
        # The line ends of YAML and of editors; str.splitlines also splits at form feeds and separators.
        return re.split(r"\r\n|\r|\n", self.text)

    def line(self, number: int) -> str:
        """The line with this number, counted from 1; beyond the end an empty one."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""


@dataclass(frozen=True)
class Place:
    """A stretch of one line of a source. Lines and columns count from 1, columns in characters."""

    source: Source
    line: int
    column: int
    width: int = 1

    def __str__(self) -> str:
        name = printable(self.source.name, limit=0)
        if self.source.flag:
            return f"{name} {printable(self.source.line(self.line))}"
        return f"{name}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: `message`, its place, a `hint` beside the carets, and `help`, what to do."""

    message: str
    place: Place | None = None
    hint: str = ""
    help: str = ""

    def __str__(self) -> str:
        lines = [f"error: {self.message}"]
        if self.place:
            lines += _excerpt(self.place, self.hint)
        if self.help:
            lines.append(f"help: {self.help}")
        return "\n".join(lines)


def _excerpt(place: Place, hint: str) -> list[str]:
    """Where it is: the line of the source with carets under the place. A flag is its own line and needs no number."""
    shown, carets = _window(place)
    number = str(place.line)
    gutter = " " * len(number)
    if place.source.flag:
        start = f"  --> {printable(place.source.name, limit=0)} "
        return [f"{start}{shown}".rstrip(), f"{' ' * len(start)}{carets} {hint}".rstrip()]
    if not shown.strip():  # an empty line, or a file whose text cannot be shown
        return [f"{gutter}--> {place}"]
    return [
        f"{gutter}--> {place}",
        f"{gutter} |",
        f"{number} | {shown}".rstrip(),
        f"{gutter} | {carets} {hint}".rstrip(),
    ]


def _window(place: Place) -> tuple[str, str]:
    """About 100 columns of the line around the place, made safe to print, and the carets that go under them."""
    raw, column = place.source.line(place.line), place.column - 1
    before = printable(raw[max(0, column - 60) : column], limit=0)
    inside = printable(raw[column : column + min(place.width, 60)], limit=0)
    after = printable(raw[column + place.width : column + place.width + 100], limit=0)
    shown = before + inside + after[: max(0, 100 - len(before + inside))]
    return shown, " " * cells(before) + "^" * max(1, min(cells(inside), 60))


class MetablocksError(Exception):
    """Anything the user can mend. `exit_code` is what the command line ends with."""

    exit_code = 1

    def __init__(self, *faults: Fault | str) -> None:
        self.faults = tuple(Fault(fault) if isinstance(fault, str) else fault for fault in faults)
        told = [str(fault) for fault in self.faults[:SHOWN]]
        more = len(self.faults) - len(told)
        super().__init__("\n\n".join([*told, f"and {more} more errors"] if more else told))

    def __reduce__(self) -> tuple[type[MetablocksError], tuple[Fault, ...]]:
        return type(self), self.faults

    @property
    def _place(self) -> Place | None:
        return self.faults[0].place if self.faults else None

    @property
    def file(self) -> str | None:
        return self._place.source.name if self._place else None

    @property
    def line(self) -> int | None:
        return self._place.line if self._place else None

    @property
    def column(self) -> int | None:
        return self._place.column if self._place else None

    @property
    def help(self) -> str:
        return self.faults[0].help if self.faults else ""


class InputError(MetablocksError):
    """Bad input: an argument, a file that is not there, a checkpoint."""

    exit_code = 2


class SpecError(InputError):
    """A spec that does not read or does not plan."""


class StoreError(MetablocksError):
    """A file or the results store cannot be read or written."""

    exit_code = 3


class MissingError(MetablocksError):
    """Something this machine lacks: a GPU, a compiler, an optional package."""

    exit_code = 6
