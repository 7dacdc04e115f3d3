import math
import time

import pytest
import yaml

from metablocks.core.errors import Source, SpecError
from metablocks.spec import syntax
from metablocks.spec.syntax import parse
from metablocks.spec.tree import Scalar, locate, plain

SWIN = """# Swin-T
net: classifier
image: {size: 224, channels: 3}
block:                                  # every block
  norm: layer_norm
  mixer:
    - window_attention: {window: 7, head_dim: 32}
    - window_attention: {window: 7, head_dim: 32, shift: half}
  mlp: {ratio: 4}
stages:
  - {dim: 96,  depth: 2}
  - dim: 192
    depth: 2
eps: 1e-6
"name": 'it''s'
"""


def read(text):
    return parse(Source("spec.yaml", text))


def value(text):
    return read(f"a: {text}").entries[0].value.value


def faults(text):
    with pytest.raises(SpecError) as caught:
        read(text)
    return caught.value.faults


def told(text):
    """(message, line, column, what the carets stand under) of the one fault of `text`."""
    (fault,) = faults(text)
    place = fault.place
    under = place.source.line(place.line)[place.column - 1 : place.column - 1 + place.width]
    return fault.message, place.line, place.column, under


def under(place):
    return place.source.line(place.line)[place.column - 1 : place.column - 1 + place.width]


def test_a_spec_is_read_into_plain_data():
    assert plain(read(SWIN)) == {
        "net": "classifier",
        "image": {"size": 224, "channels": 3},
        "block": {
            "norm": "layer_norm",
            "mixer": [
                {"window_attention": {"window": 7, "head_dim": 32}},
                {"window_attention": {"window": 7, "head_dim": 32, "shift": "half"}},
            ],
            "mlp": {"ratio": 4},
        },
        "stages": [{"dim": 96, "depth": 2}, {"dim": 192, "depth": 2}],
        "eps": 1e-6,
        "name": "it's",
    }


@pytest.mark.parametrize(
    ("path", "key", "content"),
    [
        (("net",), "net", "classifier"),
        (("image",), "image", "{size: 224, channels: 3}"),
        (("block",), "block", "norm"),
        (("block", "mixer", 1, "window_attention", "shift"), "shift", "half"),
        (("stages", 1, "dim"), "dim", "192"),
        (("stages", 0), "{dim: 96,  depth: 2}", "{dim: 96,  depth: 2}"),
        (("stages",), "stages", "-"),
        (("name",), '"name"', "'it''s'"),
        (("block", "norm", "eps"), "norm", "layer_norm"),
        (("stages", 7), "stages", "-"),
        ((), "net", "net"),
    ],
)
@pytest.mark.parametrize("change", [str, lambda text: text.replace("\n", "\r\n"), lambda text: "\ufeff" + text])
def test_every_key_and_value_knows_its_place(path, key, content, change):
    root = read(change(SWIN))
    assert under(locate(root, path)) == key
    assert under(locate(root, path, value=True)) == content
    assert under(locate(root, path)) in SWIN.splitlines()[locate(root, path).line - 1]


def test_columns_count_characters_also_beyond_the_basic_plane():
    entry = read("日本: [😀, x]\n").entries[0]
    assert entry.value.items[1].place.column == 9


@pytest.mark.parametrize(
    "word", ["no", "on", "yes", "True", "NULL", "0x10", "0o10", "1_000", "010", "+5", "12:30", "1,5"]
)
def test_what_yaml_1_1_would_convert_stays_a_string(word):
    assert value(word) == word


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1e-6", 1e-6), (".5", 0.5), ("3.0", 3.0), ("1.0e+4", 1e4), ("1e3", 1000.0), ("-2.", -2.0), ("-0.0", -0.0)],
)
def test_floats_are_those_of_yaml_1_2(text, expected):
    assert (value(text), type(value(text))) == (expected, float)
    assert math.copysign(1, value(text)) == math.copysign(1, expected)


def test_integers_booleans_null_and_quoted_text():
    assert [value("224"), value("-1"), value("0")] == [224, -1, 0]
    assert type(value("0")) is int
    assert [value("true"), value("false")] == [True, False]
    assert [value(""), value("null"), value("~")] == [None] * 3
    assert [value('"3"'), value("'true'"), value('""'), value('"1e-6"')] == ["3", "true", "", "1e-6"]
    assert isinstance(read("a: 007").entries[0].value, Scalar)


def test_json_is_read_too():
    assert plain(read('{"a": [1, {"b": null}], "c": "x"}')) == {"a": [1, {"b": None}], "c": "x"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # nothing there, or not a mapping
        ("", ("the spec is empty", 1, 1, "")),
        ("---\n", ("the spec is empty", 2, 1, "")),
        ("{}", ("the spec is empty", 1, 1, "{}")),
        ("[1]", ("a spec is a mapping, but this is a list", 1, 1, "[1]")),
        ("null", ("a spec is a mapping, but this is `null`", 1, 1, "null")),
        # what is left open is told where it opens
        ('a: "x\nb: 1\n', ('the quote `"` is not closed on its line', 1, 4, '"')),
        ("a: 'x\nb: 'y'\n", ("the quote `'` is not closed on its line", 1, 4, "'x")),
        ("a: [1, 2\nb: x\n", ("`[` is not closed", 1, 4, "[")),
        ("a: [1, ", ("`[` is not closed", 1, 4, "[")),
        ("a:\n- {b: {c: 1}\nd: 2\n", ("`{` is not closed", 2, 3, "{")),
        ("a: {b: 1}}", ("`}` closes nothing", 1, 10, "}")),
        ("a: {b: 1 c: 2}", ("expected `,` or `}` here", 1, 11, ":")),
        ("a: [1,,2]", ("a value is missing here", 1, 7, ",")),
        ("a: 'it's'", ("something follows the closing quote", 1, 8, "s")),
        # layout
        ("a:\n\tb: 1", ("a tab in the indentation", 2, 1, "\t")),
        ("a:\n    b: 1\n  c: 2\n", ("expected `key: value` here", 3, 3, "c")),
        ("a: 1\n- b\n", ("a list item among the keys of a mapping", 2, 1, "-")),
        ("- a\nb: 1", ("expected a list item here", 2, 1, "b")),
        ("a: - b", ("a list cannot begin here", 1, 4, "-")),
        ("a: 1\n  b: 2", ("this line goes on with the value of line 1", 2, 3, "b: 2")),
        # colons
        ("a: b: c", ("a second `:` on this line", 1, 5, ":")),
        ("a: 1\ndetph 3\nb: 2", ("a key without `:`", 2, 1, "detph 3")),
        ("a: 1\ndim:96\nb: 2", ("no space after the colon", 2, 1, "dim:96")),
        ("a:\n  dim:96\n  depth: 3", ("no space after the colon", 2, 3, "dim:96")),
        ("dim:96", ("no space after the colon", 1, 1, "dim:96")),
        ("a: {window:7, b: 1}", ("no space after the colon", 1, 5, "window:7")),
        (": x", ("a `:` without a key before it", 1, 1, ":")),
        # characters
        ("x: @a", ("a value cannot begin with `@`", 1, 4, "@")),
        ("a: ? b", ("a `?` that YAML does not take here", 1, 4, "?")),
        ("x: `a", ("a value cannot begin with a backtick", 1, 4, "`")),
        ("a: b\x00", ("a spec cannot hold the character U+0000", 1, 5, "\x00")),
        ("a: 1\nb: \x1b[1m", ("a spec cannot hold the character U+001B", 2, 4, "\x1b")),
        ("a: \ud800", ("a spec cannot hold the character U+D800", 1, 4, "\ud800")),
        ("\ufeff\ufeffa: 1", ("a spec cannot hold the character U+FEFF", 1, 1, "\ufeff")),
        ("a: 1\rb: 2", ("a spec cannot hold the character U+000D", 1, 5, "")),
        ("a: 1\n\x85b: 2", ("a spec cannot hold the character U+0085", 2, 1, "\x85")),
        ("a: 1\u2028b: 2", ("a spec cannot hold the character U+2028", 1, 5, "\u2028")),
        ('a: "\\0"', ("a string cannot hold the character U+0000", 1, 4, '"\\0"')),
        ('a: "\\ud800"', ("an unknown escape in double quotes", 1, 7, "d")),
        ("a: \u201cswin\u201d", ("left double quotation mark (U+201C) outside quotes", 1, 4, "\u201c")),
        ("a:\n  b: 1\n\u00a0\u00a0c: 1", ("no-break space (U+00A0) outside quotes", 3, 1, "\u00a0")),
        ("dim\uff1a 3\nb: 4", ("fullwidth colon (U+FF1A) outside quotes", 1, 4, "\uff1a")),
        ("a\u200b: 3", ("zero width space (U+200B) outside quotes", 1, 2, "\u200b")),
        # texts that are something else
        ("a: 1\n<<<<<<< HEAD\nb: 2\n", ("a merge conflict is not resolved", 2, 1, "<<<<<<<")),
        ("a: {{ x }}", ("a template that is not rendered", 1, 4, "{{")),
        ("a: {b: ${x}}", ("a template that is not rendered", 1, 8, "${")),
        ("{% if x %}\na: 1", ("a template that is not rendered", 1, 1, "{%")),
        ("version https://git-lfs", ("this is a Git LFS pointer, not the file itself", 1, 1, "version https://git-lfs")),
        ("<!DOCTYPE html>", ("this is a web page, not a spec", 1, 1, "<!DOCTYPE")),
        # YAML that is not part of the language
        ("a: 1\n---\nb: 1", ("a second document begins here", 2, 1, "---")),
        ("a: 1\n...\nb", ("something follows the end of the spec", 3, 1, "b")),
        ("%YAML 1.2\n---\na: 1", ("a spec takes no directives (`%`)", 1, 1, "%YAML 1.2")),
        ("a: &x [1]\nb: *x\nc: *x", ("anchors and aliases are not part of the language", 1, 4, "&x")),
        ("a: &a [*a]", ("anchors and aliases are not part of the language", 1, 4, "&a")),
        ("a: {<<: {b: 1}}", ("merge keys (`<<`) are not part of the language", 1, 5, "<<")),
        ("a: !!python/name:os.abort", ("tags are not part of the language", 1, 4, "!!python/name:os.abort")),
        ("a: !!python/object/apply:os.system [ls]", None),
        ("a: !!int banana", ("tags are not part of the language", 1, 4, "!!int")),
        ("a: ! 12", ("tags are not part of the language", 1, 4, "!")),
        ("a: !x \"b\nc\"", None),
        # keys and numbers
        ("a: 1\nb: 2\n'a': 1", ("duplicate key `a`", 3, 1, "'a'")),
        ("1: a", ("the key `1` is a number; keys must be strings", 1, 1, "1")),
        ("true: a", ("the key `true` is a boolean; keys must be strings", 1, 1, "true")),
        ("~: a", ("the key `~` is null; keys must be strings", 1, 1, "~")),
        ("? [a]\n: b", ("a list cannot be a key; keys must be strings", 1, 3, "[a]")),
        ("{{a: 1}: b, c: d}", None),
        ("a: 1234567890123456789", ("this number is too long: 19 digits", 1, 4, "1234567890123456789")),
        ("a: -.inf", ("`-.inf` is not a finite number", 1, 4, "-.inf")),
        ("a: .nan", ("`.nan` is not a finite number", 1, 4, ".nan")),
        ("a: 1e999", ("`1e999` is not a finite number: it is beyond what a float holds", 1, 4, "1e999")),
        ("a: 1e-999", ("`1e-999` is smaller than what a float holds", 1, 4, "1e-999")),
        ("a: " + "[" * 60, ("nested deeper than 32 levels", 1, 35, "[")),
    ],
)  # fmt: skip
def test_a_bad_text_is_told_in_the_readers_words_at_the_place_of_the_mistake(text, expected):
    if expected is None:
        faults(text)
    else:
        assert told(text) == expected


def test_a_duplicate_key_names_both_lines():
    (fault,) = faults("dim: 1\ndepth: 2\ndim: 1\n")
    assert (fault.place.line, fault.hint) == (3, "first on line 1")


def test_faults_that_do_not_depend_on_each_other_are_told_in_one_go():
    messages = [fault.message for fault in faults("1: a\na: .inf\na: 2\nb: !x y\nc: [1\n")]
    assert messages == [
        "the key `1` is a number; keys must be strings",
        "`.inf` is not a finite number",
        "duplicate key `a`",
        "tags are not part of the language",
        "`[` is not closed",
    ]


def test_templates_and_typographic_quotes_are_free_in_comments_and_quotes():
    assert plain(read("# {{ x }} \u201cy\u201d \u00a0\na: '\u201cy\u201d'\n")) == {"a": "\u201cy\u201d"}
    assert told("a: 1 # {{ x }}\nb") == ("a key without `:`", 2, 1, "b")


def test_the_bench_subjects_of_other_libraries_are_plain_words():
    assert plain(read("subjects: [swin_t, timm:vit_base]")) == {"subjects": ["swin_t", "timm:vit_base"]}


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
MEG = 1 << 20


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "a: " + "[" * (MEG - 3),
        "{" * MEG,
        "- " * (MEG // 2),
        "? " * (MEG // 2),
        "".join(" " * depth + "a:\n" for depth in range(1000)),
        "a: 1\n" * (MEG // 5),
        "".join(f"k{n}: 1\n" for n in range(50_000)),
        "a: [" + "1," * 20_000 + "]",
        "1: 2\n" * 9_000,
        'a: "' + "x" * (MEG - 4),
        "a: " + "9" * 5000,
        "a" * 100_000 + ": 1",
        "#" * (MEG + 1),
        "a: " + "x" * 10 * MEG,
    ],
    ids=lambda text: f"{text[:8]!r} and {len(text)} more",
)
def test_a_bomb_is_refused_at_once_and_told_in_few_words(text):
    start = time.perf_counter()
    with pytest.raises(SpecError) as caught:
        read(text)
    assert len(str(caught.value)) < 10_000
    assert time.perf_counter() - start < 2


def test_text_up_to_one_mebibyte_is_read():
    assert plain(read("a: 1\n#" + "x" * (MEG - 6))) == {"a": 1}


@pytest.mark.parametrize("loader", dict.fromkeys((syntax.LOADER, yaml.SafeLoader)))
def test_the_tree_is_the_same_without_libyaml(monkeypatch, loader):
    fast = read(SWIN)
    monkeypatch.setattr(syntax, "LOADER", loader)
    assert read(SWIN) == fast
    for text in ("a: [1", "a: 'x", "a: b: c", "a: @", "a: 1\nb\nc: 2", "a: 1\n- b", "a: *", "a: 'b' c"):
        assert "this is not YAML" not in faults(text)[0].message
