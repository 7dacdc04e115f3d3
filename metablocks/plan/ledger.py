"""The faults of a plan: each cause once, at its place. Their help is completed in `remedies`."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit, Misfit
from metablocks.core.settings import Choice, Settings
from metablocks.spec.grammar import Classifier, MaskedAutoencoder, Net, Stack
from metablocks.spec.tree import Path


@dataclass(frozen=True)
class Use:
    """Settings at work: `owner` is where they are written, `stage` the stage that uses them, on `grid`."""

    owner: Path
    settings: Settings
    stage: Path = ()
    grid: Grid | None = None

    def place(self, key: str | None) -> Path:
        """Where a fault of theirs is told: at its key, or at the stage that has them from elsewhere."""
        if self.owner[: len(self.stage)] != self.stage:
            return self.stage
        return (*self.owner, key) if key else self.owner


@dataclass(frozen=True)
class Complaint:
    """A fault before its help is complete. `cause` is the same in every stage that the same value spoils."""

    path: Path
    message: str
    cause: Hashable
    misfit: Misfit
    use: Use | None = None


class Ledger:
    """Gathers complaints. Once the grid is `lost`, those that depend on it would only follow."""

    def __init__(self) -> None:
        self._by_cause: dict[Hashable, Complaint] = {}
        self.lost = False

    @property
    def complaints(self) -> list[Complaint]:
        return list(self._by_cause.values())

    def causes(self) -> set[Hashable]:
        return set(self._by_cause)

    def tell(self, path: Path, message: str, help: str = "", cause: Hashable = None) -> None:
        self._add(Complaint(path, message, cause or message, Misfit(message, help)))

    @contextmanager
    def using(self, use: Use) -> Iterator[None]:
        """Turns a `Misfit` of these settings into a complaint."""
        try:
            yield
        except Misfit as misfit:
            if self.lost and isinstance(misfit, GridMisfit):
                return
            about = f"{dotted(use.stage)}: " if use.stage else ""
            key = misfit.key
            cause = key_holder(use.owner), type(use.settings), key, getattr(use.settings, key, None) if key else None
            self._add(Complaint(use.place(key), about + misfit.message, cause, misfit, use))

    def _add(self, complaint: Complaint) -> None:
        self._by_cause.setdefault(complaint.cause, complaint)


def key_holder(owner: Path) -> Path:
    """The path of the key that settings stand under, alone or in a list."""
    return owner[:-1] if isinstance(owner[-1], int) else owner


def spelled(net: Net, path: Path) -> Path:
    """`path` through the settings as the path through the text, where the names of choices stand between."""
    steps: list[str | int] = []
    inside: Any = net
    for step in path:
        if isinstance(inside, Choice) and not isinstance(inside, Net):
            steps.append(inside.name)
        steps.append(step)
        inside = inside[step] if isinstance(step, int) else getattr(inside, step, None)
    return tuple(steps)


def stacks(net: Net) -> list[tuple[Path, Stack]]:
    """Every stack of stages with its path."""
    if isinstance(net, Classifier):
        return [((), net)]
    assert isinstance(net, MaskedAutoencoder)
    return [(("encoder",), net.encoder), (("decoder",), net.decoder)]


def dotted(path: Path) -> str:
    """`stages.2`."""
    return ".".join(map(str, path))
