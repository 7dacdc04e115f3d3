"""Text from outside, made safe to print; near-miss suggestions. No torch here."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}  # and not the plain space


def printable(text: str, limit: int = 80) -> str:
    """`text` with control, bidirectional and invisible characters escaped, cut to `limit` characters (0: not cut)."""
    if 0 < limit < len(text):
        text = text[: limit - 3] + "..."
    if text.isprintable():
        return text
    return "".join(_escape(character) for character in text)


def cells(text: str) -> int:
    """How many columns of a terminal `text` takes: East Asian wide characters take two, combining marks none."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def _escape(character: str) -> str:
    if character == " " or unicodedata.category(character) not in UNSAFE:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was most likely meant to be, or None."""
    folded = {name.lower().replace("-", "_"): name for name in known}
    found = difflib.get_close_matches(word[:80].lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean ...?` for a near miss, else an empty text."""
    found = nearest(word, known)
    return f"did you mean `{found}`?" if found else ""


def listed(names: Iterable[str], last: str = "and") -> str:
    """`a, b and c`."""
    names = list(names)
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def side(pair: tuple[int, int]) -> str:
    """`7`, or `7 x 8` where the two differ."""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} x {pair[1]}"
