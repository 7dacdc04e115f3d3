"""JSON Schema of the language, for editors: keys, names, kinds and bounds, each with what it means.

The walk follows the types of the settings as `reader.py` does, so that nothing is declared twice. What needs more than
one key (`heads` or `head_dim`) or a size (a window that tiles its grid) is left to `metablocks check`.
"""

from __future__ import annotations

import sys
import typing
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from metablocks.core.mixer import MixerSettings
from metablocks.core.settings import Choice, Settings
from metablocks.spec.grammar import Net, names, table
from metablocks.spec.reader import is_many, settings_class, takes_none, without_none

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NONE = {"const": "none"}

Schema = dict[str, Any]


def schema() -> Schema:
    """The schema of a spec. Mixers from elsewhere are in it where they have been added."""
    writer = _Writer()
    nets = [writer.net(cls) for name, cls in table(Net).items()]
    return {
        "$schema": DIALECT,
        "title": "metablocks spec",
        "description": "A network in the language of metablocks. `metablocks check` tells what a schema cannot.",
        "type": "object",
        "required": ["net"],
        "properties": {"net": {"enum": names(Net), "description": "what the stages are assembled to"}},
        "anyOf": nets,
        "$defs": writer.definitions,
    }


class _Writer:
    """Collects a definition for each class of settings that is met."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def net(self, cls: type[Choice]) -> Schema:
        """`net: name` stands beside the keys of the net, not around them."""
        own = self.keys(cls)
        own["properties"] = {"net": {"const": cls.name}, **own["properties"]}
        own["required"] = ["net", *own.get("required", [])]
        return own

    def keys(self, cls: type[Settings]) -> Schema:
        """The mapping of a class of settings."""
        fields = cls.model_fields
        found: Schema = {"type": "object", "additionalProperties": False}
        if told := _about(cls):
            found["description"] = told
        found["properties"] = {key: self.field(cls, key, field) for key, field in fields.items()}
        if required := [key for key, field in fields.items() if field.is_required()]:
            found["required"] = required
        return found

    def field(self, cls: type[Settings], key: str, field: FieldInfo) -> Schema:
        """One key: what it takes, what it means, what it is where it is left out."""
        found = dict(self.value(field))
        if field.description:
            found["description"] = field.description
        if field.examples and not any(isinstance(example, str) for example in field.examples):
            found["examples"] = field.examples
        inherited = cls.inherits and key in _inherited(cls)
        if not field.is_required() and field.default is not None and not inherited:
            found["default"] = _default(field.default)
        return found

    def value(self, field: FieldInfo) -> Schema:
        """What a key takes, by its annotation."""
        many = is_many(field)
        kind, optional = without_none(field.annotation)
        item = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None
        cls = settings_class(kind)
        if item is not None and settings_class(item):
            return self.items(item, many, field)
        found = self.reference(cls) if cls else _plain_value(field)
        return _or(found, NONE) if optional and not many and not takes_none(kind) else found

    def items(self, item: type[Settings], many: bool, field: FieldInfo) -> Schema:
        """A list of settings, or with `many` its one item."""
        one = self.reference(item)
        bounds = {"minItems": 1} if many else _bounds(field)
        every = {"type": "array", "items": one, **bounds}
        return _or(one, every) if many else every

    def reference(self, cls: type[Settings]) -> Schema:
        name = f"{cls.kind}" if issubclass(cls, Choice) and not cls.name else cls.label or cls.__name__
        name = name.replace(" ", "_").replace("`", "")
        if name not in self.definitions:
            self.definitions[name] = {}  # a class may hold itself
            self.definitions[name] = self.choice(cls) if issubclass(cls, Choice) else self.mapping(cls)
        return {"$ref": f"#/$defs/{name}"}

    def mapping(self, cls: type[Settings]) -> Schema:
        own = self.keys(cls)
        if cls.shorthand is None:
            return own
        bare = {**self.value(cls.model_fields[cls.shorthand]), "description": f"`{cls.shorthand}` alone"}
        return _or(bare, own)

    def choice(self, kind: type[Choice]) -> Schema:
        """`name`, where its settings may all be left out, or `{name: {settings}}`."""
        forms: list[Schema] = []
        for name, cls in table(kind).items():
            if not issubclass(cls, kind):
                continue
            about = {"description": told} if (told := _about(cls)) else {}
            if _stands_alone(cls):
                forms.append({"const": name, **about})
            inner = self.keys(cls)
            if inner["properties"] or _stands_alone(cls):
                shape = {"type": "object", "properties": {name: inner}}
                forms.append({**shape, "required": [name], "additionalProperties": False, **about})
        return {"anyOf": forms}


def _stands_alone(cls: type[Settings]) -> bool:
    """Whether the name is enough."""
    try:
        cls.model_validate({})
    except ValidationError:
        return False
    return True


def _plain_value(field: FieldInfo) -> Schema:
    """Numbers, texts and lists of them, as pydantic describes them; `none` is written and not `null`."""
    annotation: Any = field.annotation
    whole: TypeAdapter[Any] = TypeAdapter(Annotated[annotation, *field.metadata] if field.metadata else annotation)
    found = whole.json_schema()
    kinds = [kind for kind in found.get("anyOf", []) if kind.get("type") != "null"]
    return found if not kinds else kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def _bounds(field: FieldInfo) -> Schema:
    """How long a list may be."""
    words = {"min_length": "minItems", "max_length": "maxItems"}
    return {word: getattr(mark, name) for mark in field.metadata for name, word in words.items() if hasattr(mark, name)}


def _or(*kinds: Schema) -> Schema:
    """Any of these; alternatives inside them are laid side by side."""
    flat: list[Schema] = []
    for kind in kinds:
        flat += kind["anyOf"] if set(kind) == {"anyOf"} else [kind]
    return {"anyOf": flat}


def _about(cls: type[Settings]) -> str:
    """The first sentence about a class: its own docstring, or for a mixer that of its file."""
    own = cls.__dict__.get("__doc__") or ""
    if issubclass(cls, MixerSettings):
        own = sys.modules[cls.__module__].__doc__ or ""
    return " ".join(own.strip().partition("\n\n")[0].split())


def _inherited(cls: type[Settings]) -> set[str]:
    """The keys that come from the class above."""
    return {key for base in cls.__bases__ if issubclass(base, Settings) for key in base.model_fields}


def _default(value: Any) -> Any:
    if isinstance(value, Choice):
        return value.name
    if isinstance(value, Settings):
        return {key: _default(item) for key, item in value if key in value.model_fields_set}
    return [_default(item) for item in value] if isinstance(value, tuple) else value
