"""The page: what is on it, what is not, and that nothing from outside becomes a part of it."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metablocks.bench.record import Figures, Record, from_data, to_data
from metablocks.bench.report.csv import csv_text
from metablocks.bench.report.markdown import markdown
from metablocks.bench.report.page import page

from .samples import HOSTILE, failed, pair, record, run, with_parts

OURS = {"html", "head", "meta", "title", "link", "style", "script", "body", "header", "main", "section", "nav", "a",
        "h1", "h2", "h3", "h4", "p", "ul", "ol", "li", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr",
        "th", "td", "button", "small", "strong", "span", "i", "details", "summary", "div", "figure", "label", "input",
        "svg", "g", "path", "line", "rect", "text", "polyline"}  # fmt: skip


class Reader(HTMLParser):
    """Elements with their attributes, and the text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] not in ("style", "script"):
            self.said += f" {data}"

    def of(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements
                if name == tag and all(found.get(key) == value for key, value in wanted.items())]  # fmt: skip


def rows(text: str) -> int:
    return len(Reader(text).of("th", scope="row"))


def test_every_row_is_in_the_table_with_its_figures() -> None:
    text = page([record("swin_t", 17.2), record("vit_s16", 15.3)])
    said = Reader(text).said
    assert rows(text) == 2
    for words in ("swin_t", "17.20", "16.68 to 17.54", "28.30 M", "4.49 G"):
        assert words in said


def test_a_failed_row_has_its_reason_and_no_figures() -> None:
    found = Reader(page([record(), failed(reason="out of memory at batch 8")]))
    assert "out of memory at batch 8" in found.said
    assert len(found.of("tr", **{"class": "is-failed"})) == 1
    assert "0.00" not in found.said


@pytest.mark.parametrize(
    ("verdict", "mark"), [("valid", "\u2713 valid"), ("unstable", "\u2248 unstable"), ("invalid", "! invalid")]
)
def test_a_verdict_is_a_sign_and_a_word(verdict: str, mark: str) -> None:
    assert mark in Reader(page([record(verdict=verdict)])).said


def test_a_record_without_a_verdict_is_not_called_valid() -> None:
    said = Reader(page([record(verdict=None)])).said
    assert "not judged" in said
    assert "\u2713" not in said


def test_a_varied_run_has_every_section() -> None:
    found = Reader(page(run()))
    names = {element.get("id") for element in found.of("section")} - {None}
    assert names == {"compared", "costs", "memory", "parts", "rows", "conditions"}
    for words in ("\u25b2 faster", "\u25bc slower", "\u25c6 cannot tell", "peak memory, MiB", "mixer 41 %"):
        assert words in found.said


def test_plots_without_data_are_absent_and_not_empty() -> None:
    found = Reader(page([record()]))
    assert {element.get("id") for element in found.of("section")} - {None} == {"rows", "conditions"}
    assert not found.of("svg")


def test_a_network_alone_gets_no_plot_against_costs() -> None:
    assert 'id="costs"' not in page([record(), record(compile="block")])
    assert 'id="costs"' in page([record(), record("vit_s16")])


def test_memory_is_drawn_where_a_network_has_several_batches() -> None:
    assert 'id="memory"' not in page([record(batch=1), record("vit_s16", batch=2)])
    assert 'id="memory"' in page([record(batch=1), record(batch=2)])


def test_networks_under_unlike_conditions_share_no_plot() -> None:
    assert 'id="costs"' not in page([record(), record("vit_s16", dtype="bfloat16")])
    assert 'id="costs"' not in page([record(), record("vit_s16", environment={"device_name": "another"})])


def test_invalid_rows_are_in_the_table_and_in_no_plot_or_comparison() -> None:
    text = page(pair(0, record(), record("vit_s16", verdict="invalid")))
    assert 'id="compared"' not in text
    assert 'id="costs"' not in text
    assert rows(text) == 2


def test_a_condition_that_differs_is_a_column_and_one_that_does_not_is_a_sentence() -> None:
    one = Reader(page([record(), record("vit_s16")]))
    assert "dtype float32" in one.said
    two = Reader(page([record(), record(dtype="bfloat16")]))
    assert "dtype float32" not in two.said
    assert " float32" in two.said


def test_the_conditions_are_told_in_words() -> None:
    said = Reader(page(run())).said
    for words in ("AMD EPYC", "2 threads", "torch 2.13.0+cpu", "3 processes of its own", "3 s of timed rounds",
                  "rounds within one are not independent", "FLOPs = 2 x MACs", "random numbers"):  # fmt: skip
        assert words in said


def test_the_newest_2000_rows_are_shown_and_the_page_says_so() -> None:
    many = [record(time=f"row {index}") for index in range(2003)]
    text = page(many)
    assert rows(text) == 2000
    assert "The newest 2,000 of 2,003 rows are shown" in text
    assert "row 2002" in text
    assert "row 2<" not in text
    assert "The newest" not in page(many[:2000])


def test_the_page_asks_no_network_for_anything() -> None:
    found = Reader(page(run()))
    links = [value for _, own in found.elements for key, value in own.items() if key in ("href", "src", "action")]
    assert set(links) <= {
        "data:,",
        *(f"#{name}" for name in ("compared", "costs", "memory", "parts", "rows", "conditions")),
    }
    assert "url(" not in page(run())


def test_the_policy_lets_in_the_own_script_and_nothing_else() -> None:
    (policy,) = Reader(page([record()])).of("meta", **{"http-equiv": "Content-Security-Policy"})
    content = policy["content"] or ""
    assert content.startswith("default-src 'none'")
    assert "unsafe" not in content
    assert len(re.findall(r"'sha256-[A-Za-z0-9+/=]{44}'", content)) == 2


def test_no_element_has_a_style_or_a_handler_of_its_own() -> None:
    for _, attributes in Reader(page(run())).elements:
        assert not [key for key in attributes if key == "style" or key.startswith("on")]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_is_told_and_never_read(text: str) -> None:
    place = {"device_name": text, "torch": text}
    base = with_parts(record(text, 10, digest=text, subject=text, environment=place, warnings=(text,), convention=text))
    parts = tuple({**row, "part": text, "what": text} for row in base.parts)
    base = replace(base, parts=parts, mode=text, dtype=text, device=text, unknown_ops=(text,), verdict=text)
    other = replace(base, compile=text, digest="another", params=5)
    lost = failed(text, text, compile=text)
    made = page([*pair(0, base, other), lost, replace(base, batch=16)], title=text)
    plain = page([*pair(0, record("x", 10), record("y", 10)), failed(), record()])
    assert {tag for tag, _ in Reader(made).elements} <= OURS
    assert len(Reader(made).of("script")) == len(Reader(plain).of("script")) == 1
    assert len(Reader(made).of("style")) == 1
    assert not set(made) & set("\x1b\x07\u202e\u2066\ud800")


def test_a_page_with_lone_surrogates_can_be_written() -> None:
    page([record("\ud800")]).encode()
    csv_text([record("\ud800")]).encode()
    markdown([record("\ud800")]).encode()


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = [item.name for item in (*fields(Record), *fields(Figures)) if item.name not in ("schema", "status", "figures")]


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from([*NAMES, "rounds_s"]), JUNK), min_size=1, max_size=4))
def test_a_file_that_somebody_edited_still_makes_every_export(edits: list[tuple[str, object]]) -> None:
    rows = [to_data(one) for one in pair(0, with_parts(record()), record("vit_s16", batch=16))]
    for name, junk in edits:
        if name == "rounds_s":
            rows[0]["processes"][0]["rounds_s"] = junk
        else:
            rows[0][name] = junk
    try:
        found = [from_data(row) for row in rows]
    except ValueError:
        return
    assert {tag for tag, _ in Reader(page(found)).elements} <= OURS
    csv_text(found).encode()
    markdown(found).encode()
