import pickle

import pytest

from metablocks.core.errors import Fault, InputError, MissingError, Place, Source, SpecError, StoreError

SPEC = Source("specs/swin_t.yaml", "net: classifier\n    - window_attention: {window: 7, sift: half}\n")


def test_a_fault_is_told_with_its_place_its_line_and_what_to_do():
    fault = Fault("unknown key `sift`", Place(SPEC, 2, 36, 4), "did you mean `shift`?", "it takes window, shift")
    assert str(fault).splitlines() == [
        "error: unknown key `sift`",
        " --> specs/swin_t.yaml:2:36",
        "  |",
        "2 |     - window_attention: {window: 7, sift: half}",
        "  |                                     ^^^^ did you mean `shift`?".replace(" ^^^^", "^^^^"),
        "help: it takes window, shift",
    ]


def test_the_gutter_is_as_wide_as_the_line_number():
    source = Source("a.yaml", "\n" * 11 + "dim: 9\n")
    assert str(Fault("no", Place(source, 12, 6))).splitlines()[1:] == [
        "  --> a.yaml:12:6",
        "   |",
        "12 | dim: 9",
        "   |      ^",
    ]


def test_a_fault_in_a_flag_shows_the_flag_in_place_of_a_line():
    flag = Source("--set", "stages.2.mixer=poolin", flag=True)
    assert str(Fault("unknown mixer `poolin`", Place(flag, 1, 16, 6), "did you mean `pooling`?")).splitlines() == [
        "error: unknown mixer `poolin`",
        "  --> --set stages.2.mixer=poolin",
        "                           ^^^^^^ did you mean `pooling`?",
    ]
    assert str(Place(flag, 1, 16, 6)) == "--set stages.2.mixer=poolin"


def test_carets_stand_under_wide_characters_and_behind_combining_ones():
    source = Source("a.yaml", "日本e\u0301: x")
    *_, shown, carets = str(Fault("no", Place(source, 1, 1, 2))).splitlines()
    assert (shown, carets) == ("1 | 日本e\u0301: x", "  | ^^^^")
    assert str(Fault("no", Place(source, 1, 7, 1))).splitlines()[-1] == "  | " + " " * 7 + "^"


def test_an_endless_line_is_shown_as_a_window_around_the_place():
    source = Source("a.yaml", "x" * 500_000 + "!" + "y" * 500_000)
    text = str(Fault("no", Place(source, 1, 500_001)))
    assert len(text) < 400
    assert "x!y" in text


def test_what_a_terminal_would_obey_is_escaped():
    text = str(Fault("no", Place(Source("a\x1b.yaml", "a: \x1b]0;title\x07 \u202e"), 1, 4, 3)))
    assert all(character == "\n" or character.isprintable() for character in text)
    assert "\\x1b" in text


def test_a_place_on_an_empty_line_or_beyond_the_text_shows_no_excerpt():
    assert str(Fault("no", Place(Source("a.yaml", ""), 1, 1))) == "error: no\n --> a.yaml:1:1"
    assert str(Fault("no", Place(Source("a.yaml", "a"), 7, 1))) == "error: no\n --> a.yaml:7:1"


def test_lines_end_where_yaml_and_editors_end_them():
    source = Source("a.yaml", "a\r\nb\rc\x0bd\x1ce\nf")
    assert [source.line(number) for number in range(6)] == ["", "a", "b", "c\x0bd\x1ce", "f", ""]


def test_an_error_spells_out_twenty_faults_and_counts_the_rest():
    text = str(SpecError(*(Fault(f"fault {number}") for number in range(50_000))))
    assert text.count("error: ") == 20
    assert text.endswith("and 49980 more errors")


def test_an_error_has_file_line_column_and_help_of_its_first_fault():
    error = SpecError(Fault("a", Place(SPEC, 2, 5), help="do this"), Fault("b"))
    assert (error.file, error.line, error.column, error.help) == ("specs/swin_t.yaml", 2, 5, "do this")
    error = SpecError("plain words")
    assert (error.file, error.line, error.column, error.help) == (None, None, None, "")
    assert str(error) == "error: plain words"


def test_an_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(SpecError(Fault("a", Place(SPEC, 2, 5)))))
    assert (str(error), error.line) == (str(SpecError(Fault("a", Place(SPEC, 2, 5)))), 2)


@pytest.mark.parametrize(("error", "code"), [(InputError, 2), (SpecError, 2), (StoreError, 3), (MissingError, 6)])
def test_every_error_knows_the_exit_code(error, code):
    assert error("no").exit_code == code
