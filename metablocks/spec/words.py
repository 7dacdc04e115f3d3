"""The reader's sentences: what is wrong in the user's words, where, and what to do."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from collections.abc import Sequence as List
from typing import Any

from metablocks.core.errors import Fault, Place
from metablocks.core.mixer import MixerSettings
from metablocks.core.settings import Choice, Settings
from metablocks.core.text import did_you_mean, listed, nearest, printable
from metablocks.parts.head import Head
from metablocks.parts.mlp import Mlp
from metablocks.spec.grammar import Block, DropPath, Image, Mask, Net, Stack, Stage, names, table
from metablocks.spec.tree import Entry, Mapping, Node, Scalar, Sequence

SECTIONS: dict[str, type[Settings]] = {
    "image": Image,
    "block": Block,
    "stages": Stage,
    "mlp": Mlp,
    "head": Head,
    "mask": Mask,
}
IN_A_NET: tuple[type[Settings], ...] = (Net, Stack, DropPath, *SECTIONS.values())
KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
}
BOUNDS = {"greater_than_equal": "at least", "less_than_equal": "at most", "greater_than": "above", "less_than": "below"}
MEANT = {"gpu": "cuda"}  # words that are spelt nothing like the key
NUMBERISH = re.compile(r"[-+.]?\d[\w.,:%+-]*")  # also with digits that are not ASCII


def found(node: Node) -> str:
    """What stands there, in words."""
    if isinstance(node, Sequence):
        return f"a list of {len(node.items)}" if node.items else "an empty list"
    if isinstance(node, Mapping):
        return "a mapping"
    if node.value is None:
        return "nothing"
    kind = "the text " if isinstance(node.value, str) else ""
    return f"{kind}`{printable(node.text, limit=40)}`"


def label(cls: type[Settings]) -> str:
    return cls.label or (cls.kind if issubclass(cls, Choice) else cls.__name__.lower())


def keys(cls: type[Settings]) -> str:
    """`window_attention takes window, head_dim, ...`, those first that must be there."""
    name = cls.name if issubclass(cls, Choice) else label(cls)
    own = sorted(cls.model_fields, key=lambda key: not cls.model_fields[key].is_required())
    if issubclass(cls, Choice) and cls.kind == "net":
        own = ["net", *own]
    return f"{name} takes {', '.join(own)}" if own else f"{name} takes no settings"


def no_keys(cls: type[Settings], node: Node, place: Place) -> Fault:
    """The fault of a value where the keys of `cls` should stand."""
    required = [key for key, field in cls.model_fields.items() if field.is_required()]
    help = keys(cls)
    if isinstance(node, Scalar) and node.value is not None and len(required) == 1:
        help = f"write `{{{required[0]}: {printable(node.text, limit=40)}}}`; {help}"
    return Fault(f"expected the keys of {label(cls)}, found {found(node)}", place, help=help)


def unknown_keys(cls: type[Settings], unknown: List[Entry], given: Iterable[str]) -> Iterable[tuple[Fault, str | None]]:
    """One fault for each key that is not of these settings, and the missing key that it was most likely meant to be."""
    given = set(given)
    missing = [key for key, field in cls.model_fields.items() if field.is_required() and key not in given]
    for entry in unknown:
        near = next((key for key in cls.model_fields if key == MEANT.get(entry.key)), None)
        near = near or nearest(entry.key, cls.model_fields)
        meant = near if near not in given else None
        if meant:
            hint = f"did you mean `{meant}`?"
        elif len(missing) == len(unknown) == 1:
            meant = missing[0]
            hint = f"did you mean `{meant}`, which is missing?"
        else:
            hint = f"`{near}` is already there" if near else _belongs(cls, entry.key)
        told = "; ".join(filter(None, [_foreign(entry.key), hint]))
        yield Fault(f"unknown key `{printable(entry.key)}` in {label(cls)}", entry.key_place, told, keys(cls)), meant


def _belongs(cls: type[Settings], key: str) -> str:
    """Where a key stands that is out of place."""
    if issubclass(cls, Choice) and cls.kind != "net":
        owners = [name for name, other in table(cls).items() if key in other.model_fields]
        return f"`{printable(key)}` belongs to {listed(owners, 'or')}" if owners else ""
    if not issubclass(cls, IN_A_NET):
        return ""
    section = next((name for name, section in SECTIONS.items() if key in section.model_fields), None)
    return f"`{key}` belongs in `{section}`" if section else ""


def _foreign(word: str) -> str:
    """Names the first character of a word that only looks like one of ours."""
    odd = next((character for character in word if not character.isascii()), None)
    return "" if odd is None else f"U+{ord(odd):04X} is {unicodedata.name(odd, 'an unnamed character').lower()}"


def choices(kind: type[Choice]) -> str:
    """`norm is layer_norm, group_norm or none`."""
    more = "; `--mixers DIR` adds others" if kind is MixerSettings else ""
    return f"{kind.kind} is {listed(names(kind), 'or')}{more}"


def unknown_choice(kind: type[Choice], word: str, place: Place) -> Fault:
    near = "`identity` mixes nothing" if kind is MixerSettings and word == "none" else did_you_mean(word, names(kind))
    hint = "; ".join(filter(None, [_foreign(word), near]))
    return Fault(f"unknown {kind.kind} `{printable(word)}`", place, hint, choices(kind))


def no_choice(kind: type[Choice], node: Node) -> Fault:
    """The fault of what is neither `name` nor `{name: {settings}}`."""
    form = f"a {kind.kind} is `name` or `{{name: {{settings}}}}`"
    if not isinstance(node, Mapping) or not node.entries:
        return Fault(f"{form}, found {found(node)}", node.place, help=choices(kind))
    known = [entry.key for entry in node.entries if entry.key in names(kind)]
    other = [entry for entry in node.entries if entry.key not in known]
    if len(known) == 1:
        key = printable(other[0].key)
        help = f"write `{{{known[0]}: {{{key}: ...}}}}`"
        return Fault(f"`{key}` stands beside the {kind.kind} `{known[0]}`, not inside", other[0].key_place, help=help)
    told = listed([f"`{printable(entry.key)}`" for entry in node.entries[:4]])
    if known:
        return Fault(f"expected one {kind.kind}, found {told}", node.place, help=f"{form}, with one name")
    help = f"write `{{name: {{settings}}}}`; {choices(kind)}"
    return Fault(f"expected the name of a {kind.kind} around {told}", node.place, help=help)


def invalid(cls: type[Settings], items: List[Any], node: Mapping, owner: Place) -> Fault:
    """Pydantic's errors of one key, several for a union, as one fault. `owner` is where the settings stand."""
    item = items[0]
    context = item.get("ctx", {})
    if not item["loc"]:
        at = node.get(context.get("key", ""))
        return Fault(context.get("message", item["msg"]), at.key_place if at else owner, help=context.get("help", ""))
    key = str(item["loc"][0])
    entry = node.get(key)
    if item["type"] == "missing" or entry is None:
        examples = cls.model_fields[key].examples
        help = f"write `{key}: {examples[0]}`" if examples else _meaning(cls, key)
        return Fault(f"missing key `{key}` in {label(cls)}", owner, help=help)
    name = label(cls) if entry.key_place is entry.value.place else key  # a bare value in place of its mapping
    wrong = _item(entry.value, item["loc"])
    place, given = wrong.place, found(wrong)
    words = [word for item in items for word in _words(item)]
    other = next((item for item in items if item["type"] != "literal_error"), None)
    if other is None:
        if isinstance(item["input"], str) and item["input"] not in words:  # numbers are words here too
            hint, help = did_you_mean(item["input"], words), f"{name} is {listed(words, 'or')}"
            return Fault(f"unknown {name} `{printable(item['input'], limit=40)}`", place, hint, help)
        help = "write it without quotes" if str(item["input"]) in words else _meaning(cls, key)
        return Fault(f"`{name}` must be {listed(words, 'or')}, found {given}", place, help=help)
    hint = did_you_mean(str(item["input"]), words) if isinstance(item["input"], str) else ""
    return Fault(f"`{name}` {_must_be(other)}, found {given}", place, hint, _value_help(cls, key, other))


def _item(node: Node, loc: tuple[int | str, ...]) -> Node:
    """The item that an error is about, where the value is a list of plain values."""
    index = loc[1] if len(loc) > 1 else None
    return node.items[index] if isinstance(node, Sequence) and isinstance(index, int) else node


def _words(item: Any) -> list[str]:
    """What a literal may be."""
    if item["type"] != "literal_error":
        return []
    return [word or number for word, number in re.findall(r"'([^']*)'|(?<![\w'])(\d+)", item["ctx"]["expected"])]


def _must_be(item: Any) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if "message" in context:
        return str(context["message"])
    if kind in KINDS:
        return f"must be {KINDS[kind]}"
    if kind in BOUNDS:
        bound = next(value for name, value in context.items() if name in ("ge", "le", "gt", "lt"))
        return f"must be {BOUNDS[kind]} {bound:g}" if isinstance(bound, float) else f"must be {BOUNDS[kind]} {bound:,}"
    if kind == "too_short":
        return "must have at least one item"
    if kind == "too_long":
        return f"must have at most {context['max_length']} items"
    return str(item["msg"]).lower()


def _value_help(cls: type[Settings], key: str, item: Any) -> str:
    if help := item.get("ctx", {}).get("help"):
        return str(help)
    if isinstance(item["input"], str) and NUMBERISH.fullmatch(item["input"]):
        return "write a plain decimal number, without quotes, units or separators"
    if item["type"] == "bool_type" and item["input"] in ("true", "false"):
        return "write it without quotes"
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
