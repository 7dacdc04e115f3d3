"""Tree to checked settings: every fault in the user's words, at its place, and each only once.

The walk follows the types of the settings: a `Choice` is dispatched on its name, a `Settings` on its keys, a tuple
item by item. What is left are plain values, which pydantic checks; its errors are mapped back to places.
"""

from __future__ import annotations

import types
import typing
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from metablocks.core.errors import Fault, MetablocksError, Place, SpecError
from metablocks.core.settings import Choice, Settings
from metablocks.core.text import listed, nearest, printable
from metablocks.spec import words
from metablocks.spec.grammar import Net, OneOrMany, find, names
from metablocks.spec.tree import Entry, Mapping, Node, Scalar, Sequence, plain
from metablocks.spec.trouble import NO_SPACE, no_space

S = TypeVar("S", bound=Settings)
BROKEN: Any = object()
"""Stands for a value whose faults are told already."""


def read_net(root: Mapping) -> Net:
    """The checked net of a tree. Raises `SpecError` with every independent fault."""
    reader = _Reader()
    return typing.cast(Net, reader.told(reader.net(root)))


def read_as(cls: type[S], root: Mapping) -> S:
    """The checked settings of a tree whose root holds the keys of `cls`. Raises as `read_net` does."""
    reader = _Reader()
    return typing.cast(S, reader.told(reader.settings(cls, root, root.place)))


class _Reader:
    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, fault: Fault) -> Any:
        self.faults.append(fault)
        return BROKEN

    def told(self, value: Any) -> Any:
        """The value, where no fault was found on the way to it."""
        if self.faults:
            raise SpecError(*sorted(self.faults, key=_where))
        return value

    def net(self, root: Mapping) -> Any:
        """`net: name` stands beside the keys of the net, not around them."""
        entry = root.get("net")
        if entry is None:
            help = f"net: {listed(names(Net), 'or')}"
            typo = next((item for item in root.entries if nearest(item.key, ["net"])), None)
            if typo:
                wrong = f"unknown key `{printable(typo.key)}`"
                return self.fault(Fault(wrong, typo.key_place, "did you mean `net`?", help))
            return self.fault(Fault("missing key `net`", root.place, help=help))
        cls = self.chosen(Net, entry.value)
        if cls is BROKEN:
            return BROKEN
        rest = Mapping(tuple(item for item in root.entries if item.key != "net"), root.place)
        return self.settings(cls, rest, root.place)

    def value(self, annotation: Any, many: bool, node: Node) -> Any:
        """What `node` is under a key declared as `annotation`."""
        kind, optional = without_none(annotation)
        if optional and not many and isinstance(node, Scalar) and node.value == "none" and not takes_none(kind):
            return None
        if typing.get_origin(kind) is tuple and settings_class(typing.get_args(kind)[0]):
            return self.items(typing.get_args(kind)[0], many, node)
        cls = settings_class(kind)
        if cls is None:
            return plain(node)
        return self.choice(cls, node) if issubclass(cls, Choice) else self.settings(cls, node, node.place)

    def items(self, cls: type[Settings], many: bool, node: Node) -> Any:
        if many and not isinstance(node, Sequence):
            one = self.value(cls, False, node)
            return one if one is BROKEN else (one,)
        if not isinstance(node, Sequence):
            help = f"begin each {words.label(cls)} with `- `"
            if isinstance(node, Scalar) and node.text and issubclass(cls, Choice):
                help = f"write `[{printable(node.text.strip('[]'), limit=40)}]`"
            return self.fault(Fault(f"expected a list, found {words.found(node)}", node.place, help=help))
        if many and not node.items:
            wrong = f"expected at least one {words.label(cls)}, found an empty list"
            return self.fault(Fault(wrong, node.place, help="leave the key out, or name one"))
        values = tuple(self.value(cls, False, item) for item in node.items)
        return BROKEN if BROKEN in values else values

    def chosen(self, kind: type[Choice], node: Node) -> Any:
        """The settings class that a name stands for."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            wrong = f"expected the name of a {kind.kind}, found {words.found(node)}"
            return self.fault(Fault(wrong, node.place, help=words.choices(kind)))
        try:
            cls = find(kind, node.value)
        except MetablocksError as error:  # the file of a mixer cannot be used
            return self.fault(Fault(error.faults[0].message, node.place, help=error.help))
        if cls is None:
            return self.fault(_squeezed(node) or words.unknown_choice(kind, node.value, node.place))
        return cls

    def choice(self, kind: type[Choice], node: Node) -> Any:
        """`name` or `{name: {settings}}`."""
        if isinstance(node, Mapping) and len(node.entries) == 1:
            entry = node.entries[0]
            cls = self.chosen(kind, Scalar(entry.key, entry.key, entry.key_place))
            inner = entry.value
            if isinstance(inner, Scalar) and inner.value is None:
                return self.nothing(cls, entry)
            return cls if cls is BROKEN else self.settings(cls, inner, entry.key_place)
        if isinstance(node, Scalar):
            cls = self.chosen(kind, node)
            return cls if cls is BROKEN else self.settings(cls, Mapping((), node.place), node.place)
        return self.fault(words.no_choice(kind, node))

    def nothing(self, cls: Any, entry: Entry) -> Any:
        """`{name: }`: the keys that must be there are missing, or the colon is one too many."""
        if cls is BROKEN:
            return BROKEN
        if any(field.is_required() for field in cls.model_fields.values()):
            return self.settings(cls, Mapping((), entry.key_place), entry.key_place)
        name = printable(entry.key)
        return self.fault(Fault(f"`{name}:` has no settings", entry.key_place, help=f"write `{name}` alone"))

    def settings(self, cls: type[Settings], node: Node, owner: Place) -> Any:
        """The settings in a mapping; faults of the whole are placed at `owner`."""
        if cls.shorthand and isinstance(node, Scalar):
            node = Mapping((Entry(cls.shorthand, node.place, node),), node.place)
        if not isinstance(node, Mapping):
            return self.fault(_squeezed(node) or words.no_keys(cls, node, node.place))
        fields = cls.model_fields
        known = [entry for entry in node.entries if entry.key in fields]
        values = {e.key: self.value(fields[e.key].annotation, is_many(fields[e.key]), e.value) for e in known}
        unknown = [entry for entry in node.entries if entry.key not in fields]
        for fault, meant in words.unknown_keys(cls, unknown, values):
            self.faults.append(fault)
            values.setdefault(meant or "", BROKEN)
        return self.build(cls, values, node, owner)

    def build(self, cls: type[Settings], values: dict[str, Any], node: Mapping, owner: Place) -> Any:
        """Hands plain values and read settings to pydantic; tells what it finds, broken keys aside."""
        broken = {key for key, value in values.items() if value is BROKEN}
        try:
            built = cls.model_validate({key: value for key, value in values.items() if key not in broken})
        except ValidationError as error:
            by_key: dict[tuple[Any, ...], list[Any]] = {}  # a union reports each of its members
            for item in error.errors(include_url=False):
                by_key.setdefault(_owner(item["loc"]), []).append(item)
            # the whole is judged once its keys are mended
            told = broken | {""} if broken else broken
            self.faults += [
                words.invalid(cls, items, node, owner) for key, items in by_key.items() if key[0] not in told
            ]
            return BROKEN
        return BROKEN if broken else built


def _squeezed(node: Node) -> Fault | None:
    """The fault of `dim:96` where a mapping should stand, or a name."""
    if isinstance(node, Scalar) and node.place.width == len(node.text) and NO_SPACE.fullmatch(node.text):
        return no_space(node.place)
    return None


def _where(fault: Fault) -> tuple[bool, int, int]:
    """The order of the text; flags come last."""
    place = fault.place
    return (place.source.flag, place.line, place.column) if place else (False, 0, 0)


def _owner(loc: tuple[int | str, ...]) -> tuple[Any, ...]:
    """The key that an error of pydantic is about, with the number of the item where it is about one of a list."""
    return (str(loc[0]), *(step for step in loc[1:2] if isinstance(step, int))) if loc else ("",)


def is_many(field: FieldInfo) -> bool:
    """Whether a list key may be given as its one item."""
    return any(isinstance(mark, OneOrMany) for mark in field.metadata)


def without_none(annotation: Any) -> tuple[Any, bool]:
    """The annotation without `| None`, and whether it had one; `Annotated` is opened on the way."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        optional = len(kinds) < len(typing.get_args(annotation))
        return (without_none(kinds[0])[0] if len(kinds) == 1 else annotation), optional
    return annotation, False


def settings_class(kind: Any) -> type[Settings] | None:
    """`kind` where it is a class of settings."""
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def takes_none(kind: Any) -> bool:
    """Whether `none` is itself one of the choices."""
    return isinstance(kind, type) and issubclass(kind, Choice) and "none" in kind.names()
