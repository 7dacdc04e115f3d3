"""Why YAML stopped: libyaml's words turned into the reader's, at the place where the mistake was made."""

from __future__ import annotations

import re
from dataclasses import replace

from yaml import Event, MarkedYAMLError, ScalarEvent, YAMLError

from metablocks.core.errors import Fault, Place, Source
from metablocks.core.text import printable
from metablocks.spec.scalars import TEMPLATE, lookalike

DEPTH = 32
NO_SPACE = re.compile(r"\s*(?:- )?([A-Za-z_]\w*):([^\s:][^\s,}\]]*)", re.ASCII)
QUIET = re.compile(r"""(?:^|\s)#.*|"(?:[^"\\]|\\.)*"|'[^']*'""")  # comments and quoted text
EXPECTED_KEY = re.compile("expected key|expected <block end>")  # libyaml, and PyYAML without it
KEY_VALUE = "write `key: value`"
CLOSING = {"[": "]", "{": "}", "]": "[", "}": "{"}
FEATURES = {
    "*": ("anchors and aliases are not part of the language", "write it out; what stages share stands in `block`"),
    "!": ("tags are not part of the language", "delete it; a spec is plain data"),
}
FEATURES["&"] = FEATURES["*"]


def explain(error: YAMLError, source: Source, opened: Place | None, last: Event | None) -> Fault:
    """The fault behind a YAML error; `opened` is the innermost open bracket, `last` the event before the error."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return Fault("this is not YAML", Place(source, 1, 1))
    place = within(source, error.problem_mark)
    context = within(source, error.context_mark or error.problem_mark)
    problem = error.problem or ""
    if "nesting depth" in problem:  # of libyaml, which looks ahead; before PyYAML 6.0.4 it had no limit
        return too_deep(place)
    if "could not find expected ':'" in problem:
        place = context  # where the key stands; the parser has gone on to the next line
    for fault in (
        suspect(source, place.line),
        _quote(place, context, problem, last),
        _token(place, problem, error.context or ""),
        _bracket(place, opened, problem),
        _colon(place, problem),
        _indentation(place, context, problem),
    ):
        if fault:
            return fault
    return Fault(f"this is not YAML: {problem}", place)


def too_deep(place: Place) -> Fault:
    return Fault(f"nested deeper than {DEPTH} levels", place, help="no spec needs that; is a bracket too many?")


def spot(mark: object) -> tuple[int, int]:
    """Line and column of a mark of PyYAML, counted from 1."""
    return getattr(mark, "line", 0) + 1, getattr(mark, "column", 0) + 1


def within(source: Source, mark: object) -> Place:
    """The place of a mark; the end of the text, for libyaml a line of its own, is the end of the last line."""
    line, column = spot(mark)
    if line > len(source.lines):
        line, column = len(source.lines), len(source.lines[-1]) + 1
    return Place(source, line, column)


def suspect(source: Source, line: int) -> Fault | None:
    """Templates and look-alike characters break YAML in many ways; the line itself says what happened."""
    text = QUIET.sub(lambda found: " " * len(found[0]), source.line(line))
    if found := TEMPLATE.search(text):
        return template(Place(source, line, found.start() + 1, 2))
    if odd := lookalike(text):
        return Fault(odd[1], Place(source, line, odd[0] + 1), help=odd[2])
    return None


def template(place: Place) -> Fault:
    """The fault of a text that still has to go through a template engine."""
    return Fault("a template that is not rendered", place, help="render the template first, then read its output")


def _quote(place: Place, context: Place, problem: str, last: Event | None) -> Fault | None:
    if "escape" in problem or "hexdecimal" in problem or "hexadecimal" in problem:
        return Fault("an unknown escape in double quotes", place, help="use single quotes, or double the backslash")
    if "unexpected end of stream" in problem or "unexpected document" in problem:
        return unclosed(context)
    quoted = isinstance(last, ScalarEvent) and last.style in ("'", '"')
    if quoted and last and spot(last.end_mark)[0] == place.line and EXPECTED_KEY.search(problem):
        help = "put the whole value in one pair of quotes; inside '...' a quote is written twice"
        return Fault("something follows the closing quote", place, help=help)
    return None


def unclosed(place: Place) -> Fault:
    """The fault of a quote or bracket that opens at `place`."""
    mark = place.source.line(place.line)[place.column - 1 : place.column]
    if mark not in CLOSING:
        shown = f"the quote `{mark}`" if mark in ("'", '"') else "a quote"
        return Fault(f"{shown} is not closed on its line", place, "opened here", "close it, or delete it")
    help = f"close it with `{CLOSING[mark]}`; items stand apart by commas, also across lines"
    return Fault(f"`{mark}` is not closed", place, "opened here", help)


def _token(place: Place, problem: str, context: str) -> Fault | None:
    mark = place.source.line(place.line)[place.column - 1 : place.column]
    if "scanning an a" in context or "tag" in context or "tag" in problem:
        message, help = FEATURES["!" if "tag" in context + problem else "*"]
        return Fault(message, place, help=help)
    if "found a tab" in problem or (mark == "\t" and "cannot start any token" in problem):
        return Fault("a tab where YAML takes only spaces", place, help="use spaces")
    if "mapping keys" in problem or "unexpected ':'" in problem:
        return Fault(f"a `{printable(mark)}` that YAML does not take here", place, help="put the value in quotes")
    if "cannot start any token" in problem:
        shown = "a backtick" if mark == "`" else f"`{printable(mark)}`"
        return Fault(f"a value cannot begin with {shown}", place, help="put it in quotes")
    if mark and mark in "]}":
        return Fault(f"`{mark}` closes nothing", place, help=f"delete it, or open it with `{CLOSING[mark]}`")
    if "block scalar" in context:
        return Fault("a block of text that does not read", place, help="put the text in quotes, on one line")
    return None


def _bracket(place: Place, opened: Place | None, problem: str) -> Fault | None:
    if opened is None:
        return None
    mark = opened.source.line(opened.line)[opened.column - 1]
    if place.line != opened.line or not place.source.line(place.line)[place.column - 1 :].strip():
        return unclosed(opened)
    if "node content" in problem:
        return Fault("a value is missing here", place, help="write it, or delete the extra comma")
    return Fault(f"expected `,` or `{CLOSING[mark]}` here", place, help=f"`{mark}` opens in column {opened.column}")


def _colon(place: Place, problem: str) -> Fault | None:
    text = place.source.line(place.line)
    missing = "could not find expected ':'" in problem
    if (missing or "mapping values" in problem) and (found := NO_SPACE.match(text)):
        return no_space(Place(place.source, place.line, found.start(1) + 1, found.end() - found.start(1)))
    if missing:
        return Fault("a key without `:`", replace(place, width=len(text.rstrip()) - place.column + 1), help=KEY_VALUE)
    if "mapping values" in problem:
        help = "one `key: value` a line; settings of a choice go in braces, `key: {name: value}`"
        return Fault("a second `:` on this line", place, help=help)
    return None


def no_space(place: Place) -> Fault:
    """The fault of `key:value`, which YAML takes for one word."""
    key, _, value = place.source.line(place.line)[place.column - 1 : place.column - 1 + place.width].partition(":")
    shown = f"{printable(key)}: {printable(value)}"
    return Fault("no space after the colon", place, help=f"write `{shown}`")


def _indentation(place: Place, context: Place, problem: str) -> Fault | None:
    where = f"column {context.column}" if place.source.flag else f"line {context.line}, column {context.column}"
    if "document start" in problem:
        return Fault("something follows the end of the spec", place, help="delete it, or the `...` before it")
    if "sequence entries" in problem:
        return Fault("a list cannot begin here", place, help="begin it on a line of its own, or write `[a, b]`")
    if problem.endswith("indicator"):
        return Fault("expected a list item here", place, help=f"begin it with `- `; the list begins in {where}")
    if EXPECTED_KEY.search(problem):
        mark = place.source.line(place.line)[place.column - 1 : place.column]
        if mark == ":":
            return Fault("a `:` without a key before it", place, help=KEY_VALUE)
        if mark == "-":
            return Fault("a list item among the keys of a mapping", place, help="put the list under a key of its own")
        help = f"its indentation fits no key before it; the mapping around it begins in {where}"
        return Fault("expected `key: value` here", place, help=help)
    if "node content" in problem:
        return Fault("a value is missing here", place, help=KEY_VALUE)
    return None
