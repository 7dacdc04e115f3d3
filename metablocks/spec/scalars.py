"""What a scalar means: YAML 1.2 numbers, booleans and null, and plain text that looks like an accident."""

from __future__ import annotations

import math
import re
import unicodedata

INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
NUMBER = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
DIGITS = 18  # what a signed 64-bit integer holds
WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
TEMPLATE = re.compile(r"\{\{|\{%|\$\{")
# What word processors make of quotes and dashes, without an ASCII normal form of their own
TYPESET = dict.fromkeys("\u2018\u2019", "'") | dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"')
TYPESET |= dict.fromkeys("\u2010\u2011\u2013\u2014\u2212", "-")


def resolve(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar. `no`, `0x10`, `1_000`, `010`, `+5` and `12:30` are strings."""
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        if len(text.lstrip("-")) > DIGITS:
            raise ValueError(f"this number is too long: {len(text.lstrip('-'))} digits")
        return int(text)
    if NOT_FINITE.fullmatch(text):
        raise ValueError(f"`{text}` is not a finite number")
    return _float(text) if NUMBER.fullmatch(text) else text


def _float(text: str) -> float:
    value = float(text)
    shown = text if len(text) < 40 else text[:37] + "..."
    if math.isinf(value):
        raise ValueError(f"`{shown}` is not a finite number: it is beyond what a float holds")
    if value == 0 and re.match(r"[^eE]*[1-9]", text):
        raise ValueError(f"`{shown}` is smaller than what a float holds")
    return value


def lookalike(text: str) -> tuple[int, str, str] | None:
    """The first character that a word processor or a web page left in plain text: index, message, help."""
    if text.isascii():
        return None
    for index, character in enumerate(text):
        ascii_twin = TYPESET.get(character) or unicodedata.normalize("NFKC", character)
        invisible = unicodedata.category(character) == "Cf"
        if invisible or (ascii_twin.isascii() and not character.isascii()):
            name = unicodedata.name(character, "an unnamed character").lower()
            typed = "a space" if ascii_twin == " " else f"a plain `{ascii_twin}`"
            help = "delete it" if invisible else f"type {typed}, or put the value in quotes"
            return index, f"{name} (U+{ord(character):04X}) outside quotes", help
    return None
