"""One page of HTML with everything in it: it asks no network for anything and lets nothing run but its own script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from metablocks.bench.record import Record
from metablocks.bench.report.bars import comparisons, parts
from metablocks.bench.report.conditions import conditions
from metablocks.bench.report.facts import MARKS, Column, Key, Mark, mark, sound, varied, warnings
from metablocks.bench.report.markup import Child, Markup, element, joined, verbatim
from metablocks.bench.report.pairs import pairs
from metablocks.bench.report.plots import against_batch, against_costs
from metablocks.core import units

ROWS = 2000  # of the table and of the plots: more make a page that no phone opens


def page(records: Sequence[Record], title: str = "metablocks bench") -> str:
    """The page of the newest records. Plots that have nothing to show are not there."""
    shown = sound(records[-ROWS:])
    style, script = _own("page.css"), _own("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        {},
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("title", {}, title),
        # without it a browser asks the server for an icon
        element("link", {"rel": "icon", "href": "data:,"}),
        verbatim("style", style),
    )
    body = element("body", {}, *_body(shown, len(records), title), verbatim("script", script))
    return f"<!doctype html>\n{element('html', {'lang': 'en'}, head, body)}\n"


def _own(name: str) -> str:
    return files("metablocks.bench.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """As a content security policy names a text that may stand in the page."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _body(shown: Sequence[Record], total: int, title: str) -> list[Child]:
    """Sections in the order of the questions: which is faster, at what cost, what exactly, under which conditions."""
    compared = pairs(shown)
    found: list[tuple[str, str, Child]] = [
        ("compared", "Measured in turns", comparisons(compared)),
        ("costs", "Throughput against costs", _all(against_costs(shown), FRONT)),
        ("memory", "Memory against batch", _all(against_batch(shown))),
        ("parts", "Where the time goes", parts(shown)),
        ("rows", "All rows", _table(shown)),
        ("conditions", "Conditions", _conditions(shown, len(compared.shown))),
    ]
    sections = [(name, heading, child) for name, heading, child in found if child is not None]
    links = [element("a", {"href": f"#{name}"}, heading) for name, heading, _ in sections]
    only = f"The newest {units.count(len(shown))} of {units.count(total)} rows are shown, in table and plots."
    header = element(
        "header",
        {},
        element("h1", {}, title),
        _summary(shown),
        element("p", {"class": "note", "role": "note"}, only) if len(shown) < total else None,
        element("nav", {"aria-label": "sections"}, *links),
    )
    blocks = [element("section", {"id": name, "aria-labelledby": f"{name}-heading"},
                      element("h2", {"id": f"{name}-heading"}, heading), child)
              for name, heading, child in sections]  # fmt: skip
    return [header, element("main", {}, *blocks)]


FRONT = (
    "Filled marks are the Pareto front: no other row in the plot is both larger and faster. "
    "Rest the pointer on a mark for its figures; each is in the table as well."
)


def _all(panels: Sequence[Markup], note: str | None = None) -> Markup | None:
    return joined((element("p", {}, note) if note else None, *panels)) if panels else None


def _summary(records: Sequence[Record]) -> Markup:
    """How many rows there are of each mark."""
    found = [mark(record) for record in records]
    many = [(one, found.count(one)) for one in MARKS if one in found]
    chips = [element("li", {"class": f"chip {_style(one.word)}"}, f"{one.sign} {units.count(count)} {one.word}")
             for one, count in many]  # fmt: skip
    return element("ul", {"class": "chips", "aria-label": "rows by verdict"}, *chips)


def _sign(one: Mark) -> Markup:
    return element("strong", {"class": _style(one.word)}, f"{one.sign} {one.word}")


def _style(word: str) -> str:
    return word.replace(" ", "-")


def _table(records: Sequence[Record]) -> Markup:
    columns = varied(records)
    heads = [_heading(column) for column in columns]
    rows = [_row(record, columns) for record in records]
    caption = element("caption", {}, "A heading sorts by its column; a second time, the other way round.")
    table = element("table", {"id": "table"}, caption, element("thead", {}, element("tr", {}, *heads)),
                    element("tbody", {}, *rows))  # fmt: skip
    search = element("input", {"type": "search", "id": "filter", "placeholder": "network, verdict, dtype ...",
                               "autocomplete": "off"})  # fmt: skip
    status = element("span", {"id": "found", "role": "status"})
    tools = element("p", {"class": "tools"}, element("label", {"for": "filter"}, "Show rows with"), search, status)
    box = {"class": "scroll", "tabindex": 0, "role": "region", "aria-labelledby": "rows-heading"}
    return joined((tools, element("div", box, table), _marks(records)))


def _marks(records: Sequence[Record]) -> Markup:
    """What the marks that are there mean."""
    used = [one for one in MARKS if any(mark(record) == one for record in records)]
    lines = [element("li", {}, _sign(one), f": {one.what}") for one in used]
    return element("ul", {"class": "marks"}, *lines)


def _heading(column: Column) -> Markup:
    unit = element("small", {}, f" {column.unit}") if column.unit else None
    press = element("button", {"type": "button", "title": column.what}, column.title, unit)
    kind = "number" if column.number else "text"
    return element("th", {"scope": "col", "aria-sort": "none", "data-kind": kind, "class": kind}, press)


def _row(record: Record, columns: Sequence[Column]) -> Markup:
    failed = record.figures is None
    cells = [_cell(record, column, index == 0) for index, column in enumerate(columns)]
    return element("tr", {"data-failed": failed, "class": "is-failed" if failed else None}, *cells)


def _cell(record: Record, column: Column, head: bool) -> Markup:
    key = column.key(record)
    attributes = {"data-key": _key(key), "class": "number" if column.number else None}
    if column.title == "verdict":
        return element("td", attributes, _verdict(record))
    if head:
        return element("th", {"scope": "row", **attributes}, column.text(record))
    return element("td", attributes, column.text(record))


def _key(key: Key) -> str | None:
    return None if key is None else repr(key) if isinstance(key, float) else key


def _verdict(record: Record) -> Markup:
    """The mark; behind it, what the record has to say for itself."""
    sign = _sign(mark(record))
    told = warnings(record)
    if record.figures is None:
        told = [str(record.reason or "no reason told"), *told]
    if not told:
        return sign
    lines = [element("li", {}, text) for text in told]
    return element("details", {"open": record.figures is None}, element("summary", {}, sign), element("ul", {}, *lines))


def _conditions(records: Sequence[Record], compared: int) -> Markup:
    lines: list[Child] = []
    before = None
    for about, text in conditions(records, compared):
        lines.append(element("dt", {}, about) if about != before else None)
        lines.append(element("dd", {}, text))
        before = about
    return element("dl", {}, *lines)
