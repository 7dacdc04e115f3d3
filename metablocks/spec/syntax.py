"""YAML text to a tree in which every key and value knows its place. No torch, no pydantic here.

The language's rules 5 to 7 begin here: plain data, YAML 1.2 scalars, no duplicate keys. The tree is made straight from
the events of PyYAML's parser, so that a bomb is met at its first excess and no value is ever built from a tag.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import yaml

from metablocks.core.errors import Fault, Place, Source, SpecError
from metablocks.core.text import printable
from metablocks.spec.scalars import TEMPLATE, lookalike, resolve
from metablocks.spec.source import FORBIDDEN, read_source, screen
from metablocks.spec.tree import Entry, Mapping, Node, Scalar, Sequence
from metablocks.spec.trouble import (
    DEPTH,
    FEATURES,
    NO_SPACE,
    explain,
    no_space,
    spot,
    suspect,
    template,
    too_deep,
    unclosed,
    within,
)

__all__ = ["parse", "parse_value", "read_source"]

NODES = 20_000
# libyaml if PyYAML was built with it: the same events, thirty times as fast
LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def parse(source: Source) -> Mapping:
    """The tree of a spec. All faults of this layer come in one SpecError; what stops the parser comes last."""
    source = screen(source)
    root = _Composer(source, source.text).document()
    if isinstance(root, Mapping) and root.entries:
        return root
    place = root.place if root else Place(source, 1, 1)
    if isinstance(root, Scalar) and (found := NO_SPACE.match(root.text)):
        raise SpecError(no_space(replace(place, width=found.end())))
    message = "the spec is empty"
    if isinstance(root, Sequence) or (isinstance(root, Scalar) and root.text):
        kind = "a list" if isinstance(root, Sequence) else f"`{printable(root.text)}`"
        message = f"a spec is a mapping, but this is {kind}"
    help = "a spec begins with `net: classifier`; `metablocks schema` describes its keys"
    raise SpecError(Fault(message, place, help=help))


def parse_value(source: Source, start: int) -> Node:
    """The tree of the YAML from character `start` of a screened source: the value of a flag, placed in the whole."""
    # Blanks in place of what stands before: columns stay right without any arithmetic.
    node = _Composer(source, " " * start + source.text[start:]).document()
    return node or Scalar(None, "", Place(source, 1, start + 1))


class _Composer:
    """One pass over the events: `faults` gathers what can be passed over, `stop` is for what cannot."""

    def __init__(self, source: Source, text: str) -> None:
        self.source = source
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=LOADER)
        self.last: yaml.Event | None = None
        self.faults: list[Fault] = []
        self.nodes = 0
        self.depth = 0
        self.brackets: list[Place] = []  # the open `[` and `{`

    def document(self) -> Node | None:
        """The one document of the text, or None where there is none."""
        root = None
        while not isinstance(event := self.next(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    help = "keep one spec to a file; delete this line or split the file"
                    raise self.stop(Fault("a second document begins here", self.place(event), help=help))
                root = self.node(self.next())
        if self.faults:
            raise SpecError(*self.faults)
        return root

    def next(self) -> yaml.Event:
        try:
            self.last = next(self.events)
        except yaml.YAMLError as error:
            bracket = self.brackets[-1] if self.brackets else None
            raise self.stop(explain(error, self.source, bracket, self.last)) from error
        return self.last

    def stop(self, fault: Fault) -> SpecError:
        return SpecError(*self.faults, fault)

    def fault(self, message: str, place: Place, hint: str = "", help: str = "") -> None:
        self.faults.append(Fault(message, place, hint, help))

    def place(self, first: yaml.Event, last: yaml.Event | None = None) -> Place:
        """The part of an event, or of a stretch of events, that stands on its first line."""
        start = within(self.source, first.start_mark)
        line, end = spot((last or first).end_mark)
        stop = end if line == start.line else len(self.source.line(start.line).rstrip()) + 1
        return replace(start, width=max(1, stop - start.column))

    def raw(self, place: Place) -> str:
        return self.source.line(place.line)[place.column - 1 : place.column - 1 + place.width]

    def node(self, event: yaml.Event) -> Node:
        place = self.place(event)
        self.nodes += 1
        if self.nodes > NODES:
            raise self.stop(Fault(f"more than {NODES:,} values", place, help="a spec is a page; is this another file?"))
        self.refuse_features(event, place)
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event, place)
        if isinstance(event, yaml.AliasEvent):
            return Scalar(None, "", place)
        if self.depth == DEPTH:
            raise self.stop(too_deep(place))
        return self.collection(event, place)

    def refuse_features(self, event: yaml.Event, place: Place) -> None:
        """Anchors, aliases and tags, each told once: the first of a thousand says it all."""
        marks = "*" * (isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None)
        marks += "!" * (getattr(event, "tag", None) is not None)
        for message, help in (FEATURES[mark] for mark in marks):
            if all(fault.message != message for fault in self.faults):
                word = self.source.line(place.line)[place.column - 1 :].split(maxsplit=1)[0]
                self.fault(message, replace(place, width=len(word)), help=help)

    def collection(self, event: yaml.Event, place: Place) -> Mapping | Sequence:
        bracket = self.bracket(event)
        self.depth += 1
        self.brackets += [bracket] if bracket else []
        if isinstance(event, yaml.MappingStartEvent):
            entries, items = self.entries(), None
        else:
            entries, items = [], self.items()
        if bracket:
            self.brackets.pop()
            place = self.place(event, self.last)
        elif entries:
            place = entries[0].key_place
        self.depth -= 1
        return Mapping(tuple(entries), place) if items is None else Sequence(tuple(items), place)

    def bracket(self, event: yaml.Event) -> Place | None:
        """Where the bracket stands that a collection opens with; the mapping in `[a: b]` has none and no width."""
        line, end = spot(event.end_mark)
        opened = self.source.line(line)[end - 2 : end - 1] in ("[", "{") and spot(event.start_mark) != (line, end)
        return Place(self.source, line, end - 1) if opened else None

    def items(self) -> list[Node]:
        items = []
        while not isinstance(event := self.next(), yaml.SequenceEndEvent):
            items.append(self.node(event))
        return items

    def entries(self) -> list[Entry]:
        entries: list[Entry] = []
        lines: dict[str, Place] = {}
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            key, place = self.key(event)
            value = self.node(self.next())
            if key is None:
                continue
            if key in lines:
                hint = "" if self.source.flag else f"first on line {lines[key].line}"
                self.fault(f"duplicate key `{printable(key)}`", place, hint, "keep one of the two")
            elif isinstance(value, Scalar) and value.text == "" and NO_SPACE.fullmatch(self.raw(place)):
                self.faults.append(no_space(place))  # `{window:7}`
            lines.setdefault(key, place)
            entries.append(Entry(key, place, value))
        return entries

    def key(self, event: yaml.Event) -> tuple[str | None, Place]:
        """A key and its place; None where a fault has told that it is not a string."""
        known = len(self.faults)
        node = self.node(event)
        place = node.place
        if len(self.faults) > known:
            return None, place
        if not isinstance(node, Scalar):
            if self.source.line(place.line)[max(0, place.column - 2) :].startswith("{{"):
                self.faults.append(template(replace(place, column=place.column - 1, width=2)))
                return None, place
            kind = "a list" if isinstance(node, Sequence) else "a mapping"
            self.fault(f"{kind} cannot be a key; keys must be strings", place, help="write `key: value`")
            return None, place
        if node.value == "<<" == self.raw(place):
            self.fault("merge keys (`<<`) are not part of the language", place, help=FEATURES["*"][1])
            return None, place
        if isinstance(node.value, str):
            return node.value, place
        kind = {bool: "a boolean", type(None): "null"}.get(type(node.value), "a number")
        shown = printable(node.text)
        self.fault(f"the key `{shown}` is {kind}; keys must be strings", place, help=f'quote it: `"{shown}"`')
        return None, place

    def scalar(self, event: yaml.ScalarEvent, place: Place) -> Scalar:
        plain = event.style in ("", None)
        if event.style not in ("|", ">") and (more := self.continued(event, place)):
            raise self.stop(self.runs_on(place, plain, more))
        if found := FORBIDDEN.search(event.value):
            self.fault(f"a string cannot hold the character U+{ord(found[0]):04X}", place, help="delete it")
        elif TEMPLATE.search(event.value):
            self.faults.append(template(place))
        if not plain:
            return Scalar(event.value, event.value, place)
        if odd := lookalike(event.value):
            self.fault(odd[1], replace(place, column=place.column + odd[0], width=1), help=odd[2])
        try:
            return Scalar(resolve(event.value), event.value, place)
        except ValueError as error:
            self.fault(str(error), place, help="write a plain decimal number")
            return Scalar(None, event.value, place)

    def continued(self, event: yaml.Event, place: Place) -> Place | None:
        """The next line of text that belongs to a scalar. An empty one has none, even if a tag makes it end later."""
        for line in range(place.line + 1, spot(event.end_mark)[0] + 1):
            if text := self.source.line(line).strip(" \t"):
                return Place(self.source, line, self.source.line(line).index(text) + 1, len(text))
        return None

    def runs_on(self, place: Place, plain: bool, more: Place) -> Fault:
        """YAML lets plain and quoted text run on over lines; in a spec that is always a forgotten mark."""
        if not plain:
            return unclosed(place)
        if fault := suspect(self.source, place.line):
            return fault
        if found := NO_SPACE.match(self.raw(place)):
            return no_space(replace(place, width=found.end()))
        if self.brackets:
            return unclosed(self.brackets[-1])
        help = "is a `:` missing, or is the line indented too far? text of several lines begins with `>`"
        return Fault(f"this line goes on with the value of line {place.line}", more, help=help)
