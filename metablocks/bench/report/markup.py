"""HTML and SVG from plain values. The only place that escapes: what is not `Markup` is text from outside."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

from metablocks.core.text import printable

VOID = {"meta", "link", "input", "br"}
SHOWN = 2000  # characters of one text

Attributes = Mapping[str, object]
Child = object
"""Markup, text, or None for nothing."""


class Markup(str):
    """Text that is markup already. Made here alone."""

    __slots__ = ()


def escaped(value: object) -> Markup:
    """Text between tags or in a quoted attribute; control, bidirectional and invisible characters spelled out."""
    return Markup(html.escape(printable(str(value), SHOWN), quote=True))


def element(name: str, attributes: Attributes, *children: Child) -> Markup:
    """A tag with its children. Attributes of None or False are left out, those of True stand without a value."""
    start = f"<{name}{_attributes(attributes)}>"
    if name in VOID:
        return Markup(start)
    return Markup(f"{start}{joined(children)}</{name}>")


def joined(children: Iterable[Child]) -> Markup:
    """Children one after the other."""
    told = (child for child in children if child is not None)
    return Markup("".join(child if isinstance(child, Markup) else escaped(child) for child in told))


def verbatim(name: str, text: str) -> Markup:
    """`style` or `script` around a text of this package. Nothing in there can be escaped, so no data may be."""
    if f"</{name}" in text.lower():
        raise ValueError(f"a text that ends its own <{name}>")
    return Markup(f"<{name}>{text}</{name}>")


def _attributes(attributes: Attributes) -> str:
    told = ((key, value) for key, value in attributes.items() if value is not None and value is not False)
    return "".join(f" {key}" if value is True else f' {key}="{escaped(value)}"' for key, value in told)
