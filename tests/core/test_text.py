import pytest
from hypothesis import given
from hypothesis import strategies as st

from metablocks.core.text import cells, did_you_mean, listed, nearest, printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("dim", "dim"),
        ("a b", "a b"),
        ("日本 é", "日本 é"),
        ("\x1b[1m", "\\x1b[1m"),
        ("a\u00a0b", "a\\xa0b"),
        ("\u202e", "\\u202e"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("\n\t", "\\x0a\\x09"),
        ("\u3000", "\\u3000"),
    ],
)
def test_what_cannot_be_seen_is_escaped(raw, shown):
    assert printable(raw) == shown


def test_long_text_is_cut_unless_told_otherwise():
    assert printable("x" * 100) == "x" * 77 + "..."
    assert printable("x" * 100, limit=0) == "x" * 100


@given(st.text(st.characters()))
def test_printable_text_is_printable_and_encodes(text):
    assert printable(text, limit=0).isprintable()
    printable(text).encode()


def test_cells_count_what_a_terminal_shows():
    assert (cells("abc"), cells("日本"), cells("e\u0301")) == (3, 4, 1)


def test_a_near_miss_is_found_whatever_its_case_or_dashes():
    assert nearest("detph", ["dim", "depth"]) == "depth"
    assert nearest("Drop-Path", ["drop_path"]) == "drop_path"
    assert nearest("zzz", ["depth"]) is None
    assert did_you_mean("sift", ["shift"]) == "did you mean `shift`?"
    assert did_you_mean("zzz", ["shift"]) == ""


def test_names_are_listed_as_in_a_sentence():
    assert (listed([]), listed(["a"]), listed("abc"), listed("ab", "or")) == ("", "a", "a, b and c", "a or b")
