"""The reader's sentences: what is wrong in the user's words, where, and what to do."""

from __future__ import annotations

import re
from typing import Any

from metablocks.core.errors import Fault, Place
from metablocks.core.settings import Choice, Settings
from metablocks.core.text import did_you_mean, listed, printable
from metablocks.spec.grammar import names, table
from metablocks.spec.tree import Mapping, Node, Sequence, locate

KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
}
BOUNDS = {"greater_than_equal": "at least", "less_than_equal": "at most", "greater_than": "above", "less_than": "below"}
NUMBERISH = re.compile(r"[+-]?[\d０-９][\w.,:%０-９]*\Z")


def found(node: Node) -> str:
    """What stands there, in words."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "a mapping"
    if node.value is None:
        return "nothing"
    kind = "the text " if isinstance(node.value, str) else ""
    return f"{kind}`{printable(node.text, limit=40)}`"


def label(cls: type[Settings]) -> str:
    return cls.label or cls.__name__.lower()


def keys(cls: type[Settings]) -> str:
    """`window_attention takes window, head_dim, ...`."""
    name = cls.name if issubclass(cls, Choice) else label(cls)
    own = [key for key in cls.model_fields]
    if issubclass(cls, Choice) and cls.kind == "net":
        own = ["net", *own]
    return f"{name} takes {', '.join(own)}" if own else f"{name} takes no settings"


def choices(kind: type[Choice]) -> str:
    """`norm is one of ...`."""
    return f"{kind.kind} is {listed(names(kind), 'or')}"


def unknown_key(cls: type[Settings], key: str, place: Place) -> Fault:
    """One fault for a key that is not of these settings, with its near miss or the choice that it belongs to."""
    hint = did_you_mean(key, cls.model_fields)
    if not hint and issubclass(cls, Choice) and cls.kind != "net":
        owners = [name for name, other in table(cls).items() if key in other.model_fields]
        hint = f"`{printable(key)}` belongs to {listed(owners, 'or')}" if owners else ""
    return Fault(f"unknown key `{printable(key)}` in {label(cls)}", place, hint, keys(cls))


def invalid(cls: type[Settings], item: Any, node: Mapping, owner: Place) -> Fault:
    """An error of pydantic as one fault. `owner` is where the settings as a whole stand."""
    context = item.get("ctx", {})
    if not item["loc"]:
        return Fault(context.get("message", item["msg"]), owner, help=context.get("help", ""))
    key = str(item["loc"][0])
    if item["type"] == "missing":
        return Fault(f"missing key `{key}` in {label(cls)}", owner, help=_meaning(cls, key))
    place = locate(node, (key,), value=True)
    if item["type"] == "literal_error":
        return _unknown_word(key, item, place)
    return Fault(f"`{key}` {_must_be(item, context)}", place, help=_value_help(cls, key, item, context))


def _unknown_word(key: str, item: Any, place: Place) -> Fault:
    allowed = re.findall(r"'([^']*)'|(?<![\w'])(\d+)", item["ctx"]["expected"])
    words = [word or number for word, number in allowed]
    given = printable(str(item["input"]), limit=40)
    return Fault(f"unknown {key} `{given}`", place, did_you_mean(given, words), f"{key} is {listed(words, 'or')}")


def _must_be(item: Any, context: dict[str, Any]) -> str:
    kind, given = item["type"], _given(item["input"])
    if "message" in context:
        return str(context["message"])
    if kind in KINDS:
        return f"must be {KINDS[kind]}, found {given}"
    if kind in BOUNDS:
        bound = next(value for name, value in context.items() if name in ("ge", "le", "gt", "lt"))
        return (
            f"must be {BOUNDS[kind]} {bound:g}, found {given}"
            if isinstance(bound, float)
            else (f"must be {BOUNDS[kind]} {bound}, found {given}")
        )
    if kind in ("too_short", "too_long"):
        least = "at least" if kind == "too_short" else "at most"
        return f"must have {least} {context.get('min_length', context.get('max_length'))} items"
    return str(item["msg"]).lower()


def _given(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return f"the text `{printable(value, limit=40)}`" if isinstance(value, str) else f"`{value}`"


def _value_help(cls: type[Settings], key: str, item: Any, context: dict[str, Any]) -> str:
    if context.get("help"):
        return str(context["help"])
    if isinstance(item["input"], str) and NUMBERISH.match(item["input"]):
        return "write a plain decimal number, without quotes, units or separators"
    return _meaning(cls, key)


def _meaning(cls: type[Settings], key: str) -> str:
    description = cls.model_fields[key].description
    return f"{key}: {description}" if description else ""


def setting_rows(cls: type[Settings]) -> list[tuple[str, str, str]]:
    """Key, default and meaning of each setting, for people."""
    rows = []
    for key, field in cls.model_fields.items():
        default = "required" if field.is_required() else "-" if field.default is None else _shown(field.default)
        rows.append((key, default, field.description or ""))
    return rows


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    return value.name if isinstance(value, Choice) else str(value).lower()
