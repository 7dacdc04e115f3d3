"""Settings that a publisher implies, held against a spec."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from metablocks.core.errors import Fault, InputError
from metablocks.core.text import listed
from metablocks.weights.rules import Publisher

Place = tuple[str, Any]
"""A dotted path of the spec and the value there."""


def contradictions(publisher: Publisher, spec: Mapping[str, Any]) -> list[str]:
    """The assignments `path=value` with which a resolved spec agrees with the publisher; empty where it does.

    Raises `InputError` where the weights are of another kind of network.
    """
    publisher = publisher.into(str(spec["net"]))
    mixers = {name for _, value in _places(spec, "block.mixer") for item in value for name in _names(item)}
    check_kind(publisher, str(spec["net"]), mixers)
    height, width = spec["image"]["size"]
    implied = publisher.settings if height == width else (*publisher.settings, *publisher.oblong)
    wrong = {
        f"{path}={written(value)}": None
        for pattern, value in implied
        for path, present in _places(spec, pattern)
        if not agrees(value, present)
    }
    return list(wrong)


def check_kind(publisher: Publisher, net: str, mixers: Iterable[str]) -> None:
    """Raises `InputError` where the publisher's network is of another kind, by its net and the mixers in it."""
    foreign = sorted(set(mixers) - set(publisher.mixers)) if publisher.mixers else []
    if publisher.net not in ("", net):
        wrong = f"these are weights of {publisher.name}; they go into a {publisher.net}, and the spec is a {net}"
    elif foreign:
        wrong = (
            f"these are weights of {publisher.name}, and the spec mixes by {listed(f'`{name}`' for name in foreign)}"
        )
    else:
        return
    raise InputError(
        Fault(wrong, help="build the network that they were trained for: `metablocks specs` lists the names")
    )


def agrees(value: object, present: object) -> bool:
    """Whether a resolved value is the implied one; keys that the implied one leaves out may be anything."""
    if isinstance(value, dict):
        return isinstance(present, dict) and all(
            key in present and agrees(item, present[key]) for key, item in value.items()
        )
    if isinstance(value, float):
        return isinstance(present, float) and math.isclose(value, present)
    return value in (present, *_names(present))


def written(value: object) -> str:
    """A value as it is written in a spec: `{layer_norm: {eps: 1e-6}}`."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-")
    return str(value)


def _places(spec: Mapping[str, Any], pattern: str) -> Iterator[Place]:
    """Every value that a path is about. What a stage may replace is looked up for each stage."""
    names = pattern.split(".")
    if names[0] not in ("block", "downsample"):
        yield from _walk("", spec, names)
        return
    stacks = {f"{part}.": spec[part] for part in ("encoder", "decoder") if part in spec} or {"": spec}
    for prefix, stack in stacks.items():
        shared, path = (spec["block"], "block.") if names[0] == "block" else (stack, prefix)
        names_in = names[1:] if names[0] == "block" else names
        for index, stage in enumerate(stack["stages"]):
            if names_in[0] in stage:
                yield from _walk(f"{prefix}stages.{index}.", stage, names_in)
            else:
                yield from _walk(path, shared, names_in)


def _walk(path: str, value: Any, names: list[str]) -> Iterator[Place]:
    if not names:
        yield path.rstrip("."), value
    elif isinstance(value, list) and names[0].isdecimal():
        for item in value[int(names[0]) : int(names[0]) + 1]:
            yield from _walk(f"{path}{names[0]}.", item, names[1:])
    elif isinstance(value, list):
        for index, item in enumerate(value):  # a list of one is mostly written as its item
            yield from _walk(f"{path}{index}." if len(value) > 1 else path, item, names)
    elif isinstance(value, Mapping):
        for key in value if names[0] == "*" else [names[0].removesuffix("?")]:
            if key in value:
                yield from _walk(f"{path}{key}.", value[key], names[1:])
            elif names[0].endswith("?"):
                yield f"{path}{key}", None


def _names(value: object) -> list[str]:
    """The name of a choice, with or without settings, in a list."""
    return list(value) if isinstance(value, dict) else [str(value)]
