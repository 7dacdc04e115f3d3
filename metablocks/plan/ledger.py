"""The faults of a plan: each cause once, with its place, and in its help what the planner knows of the way there."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from metablocks.core.errors import Fault
from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit, Misfit
from metablocks.core.settings import Choice, Settings
from metablocks.spec import Spec
from metablocks.spec.tree import Path


@dataclass(frozen=True)
class Use:
    """Settings at work: `owner` is where they are written, `stage` the stage that uses them, on `grid`."""

    owner: Path
    settings: Settings
    stage: Path = ()
    grid: Grid | None = None

    @property
    def local(self) -> bool:
        """Whether they are written where they are used."""
        return self.owner[: len(self.stage)] == self.stage

    def place(self, key: str | None) -> Path:
        """Where a fault of theirs is told: at its key where that is written, else at the stage."""
        if not self.local:
            return self.stage
        name = (self.settings.name,) if isinstance(self.settings, Choice) else ()
        return (*self.owner, *name, key) if key else self.owner


@dataclass(frozen=True)
class Complaint:
    """A fault before its help is complete."""

    path: Path
    message: str
    misfit: Misfit
    use: Use | None = None

    @property
    def cause(self) -> Hashable:
        """The same for every stage, and for every mixer of a list, that the same value of the same key spoils."""
        if self.use is None:
            return self.path
        written = tuple(step for step in self.use.owner if step != self.use.owner[-1] or isinstance(step, str))
        return written, type(self.use.settings), self.misfit.key, self.value

    @property
    def value(self) -> Any:
        return getattr(self.use.settings, self.misfit.key, None) if self.use and self.misfit.key else None


class Ledger:
    """Gathers complaints. After one that leaves the grid unknown, those that depend on a grid would only follow."""

    def __init__(self) -> None:
        self.complaints: list[Complaint] = []
        self.lost = False

    def causes(self) -> set[Hashable]:
        return {complaint.cause for complaint in self.complaints}

    def tell(self, path: Path, message: str, help: str = "") -> None:
        self._add(Complaint(path, message, Misfit(message, help)))

    @contextmanager
    def using(self, use: Use) -> Iterator[None]:
        """Turns a `Misfit` of these settings into a complaint."""
        try:
            yield
        except Misfit as misfit:
            if not (self.lost and isinstance(misfit, GridMisfit)):
                about = f"{dotted(use.stage)}: " if use.stage else ""
                self._add(Complaint(use.place(misfit.key), about + misfit.message, misfit, use))

    def _add(self, complaint: Complaint) -> None:
        if complaint.cause not in self.causes():
            self.complaints.append(complaint)

    def faults(self, spec: Spec, help: Callable[[Complaint], str]) -> Iterator[Fault]:
        for complaint in self.complaints:
            yield Fault(complaint.message, spec.at(complaint.path), help=help(complaint))


def dotted(path: Path) -> str:
    return ".".join(map(str, path))
