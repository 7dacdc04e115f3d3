"""The tree that a text is read into, in which every key and value knows its place. No torch, no pydantic here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from metablocks.core.errors import Place


@dataclass(frozen=True)
class Scalar:
    """`value` is what YAML 1.2 makes of `text`; a quoted scalar is always a string."""

    value: str | int | float | bool | None
    text: str
    place: Place


@dataclass(frozen=True)
class Entry:
    key: str
    key_place: Place
    value: Node


@dataclass(frozen=True)
class Mapping:
    entries: tuple[Entry, ...]
    place: Place

    def get(self, key: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.key == key), None)


@dataclass(frozen=True)
class Sequence:
    items: tuple[Node, ...]
    place: Place


Node: TypeAlias = "Scalar | Mapping | Sequence"
Path: TypeAlias = "tuple[str | int, ...]"


def plain(node: Node) -> Any:
    """The tree as Python data: dicts, lists and scalars, without places."""
    if isinstance(node, Mapping):
        return {entry.key: plain(entry.value) for entry in node.entries}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return node.value


def locate(root: Node, path: Iterable[str | int], value: bool = False) -> Place:
    """Where the thing at `path` stands: its key, or with `value` what follows the key; for an item of a list, the item.

    A path that leads beyond what is there gives the deepest place on the way: a missing key is told at what lacks it.
    """
    node, place = root, root.place
    for step in path:
        if isinstance(node, Mapping) and isinstance(step, str) and (entry := node.get(step)):
            node, place = entry.value, entry.value.place if value else entry.key_place
        elif isinstance(node, Sequence) and isinstance(step, int) and 0 <= step < len(node.items):
            node = node.items[step]
            place = node.place
        elif step != 0:  # a list of one may be written as its item
            break
    return place
