"""The checked spec: settings beside the tree that they were read from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from metablocks.core.errors import Place
from metablocks.core.settings import Choice, Settings
from metablocks.spec.tree import Mapping, Path, locate

if TYPE_CHECKING:
    from metablocks.spec.grammar import Net


@dataclass(frozen=True)
class Spec:
    """A network that reads. `shipped` says whether it came by the name of a shipped spec."""

    name: str
    net: Net
    root: Mapping = field(repr=False, compare=False)
    shipped: bool = False
    edits: tuple[str, ...] = ()

    def at(self, path: Path) -> Place:
        """Where the value at `path` stands in the text, or the deepest thing on the way to it."""
        return locate(self.root, path)

    def resolved(self) -> dict[str, Any]:
        """The whole spec as plain data, every default written out; it reads back to the same spec."""
        return {"net": self.net.name, **_keys(self.net)}

    @property
    def digest(self) -> str:
        """SHA-256 of the resolved spec: the same for any spelling of the same network."""
        return hashlib.sha256(json.dumps(self.resolved(), sort_keys=True).encode()).hexdigest()


def _keys(settings: Settings) -> dict[str, Any]:
    """The keys that are written or have a default; a key that a stage leaves to `block` stays out."""
    return {
        key: "none" if value is None else _plain(value)
        for key, value in settings
        if key in settings.model_fields_set or (value is not None and not settings.inherits)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Choice):
        keys = _keys(value)
        return {value.name: keys} if keys else value.name
    if isinstance(value, Settings):
        return _keys(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
