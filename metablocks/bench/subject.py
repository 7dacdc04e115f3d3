"""What is measured: a network, frozen as text before the first case runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metablocks.plan import Plan
    from metablocks.spec import Spec


@dataclass(frozen=True)
class Subject:
    """`given` is what the user called it, `text` the whole resolved spec as JSON: a later edit of the file is not seen.

    `mixers` are folders of loose mixers, which a worker has to let in again.
    """

    name: str
    given: str
    text: str
    edits: tuple[str, ...] = ()
    mixers: tuple[str, ...] = ()

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = json.loads(self.text)
        return spec

    @property
    def digest(self) -> str:
        """The digest of the spec, as `Spec.digest` has it."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def subject(source: str | Path | Spec, edits: Sequence[str] = (), folders: Sequence[str | Path] = ()) -> Subject:
    """The subject by path, shipped name, text or spec; read and planned, so that every fault is told before a run."""
    from metablocks.plan import plan
    from metablocks.spec import Spec, read

    _let_in(folders)
    checked = source if isinstance(source, Spec) else read(source, edits)
    plan(checked)
    given = checked.name if isinstance(source, Spec) or "\n" in str(source) else str(source)
    text = json.dumps(checked.resolved(), sort_keys=True)
    return Subject(checked.name, given, text, tuple(checked.edits), tuple(str(Path(one).resolve()) for one in folders))


def planned(subject: Subject) -> Plan:
    """The plan of a subject, in a worker."""
    from metablocks.plan import plan
    from metablocks.spec import read

    _let_in(subject.mixers)
    return plan(read(subject.text))


def _let_in(folders: Sequence[str | Path]) -> None:
    if folders:
        from metablocks.mixers import add_folder

        for folder in folders:
            add_folder(folder)
