import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metablocks.core.errors import Fault, InputError, Source, SpecError
from metablocks.spec.edit import assignments_from, edit
from metablocks.spec.syntax import parse
from metablocks.spec.tree import locate, plain

ROOT = parse(
    Source(
        "spec.yaml",
        """net: classifier
head:
block: {norm: layer_norm, mixer: window_attention, mlp: {ratio: 4}}
stages:
  - {dim: 96,  depth: 2}
  - {dim: 192, depth: 2}
""",
    )
)


def edited(*assignments):
    return plain(edit(ROOT, assignments))


def fault(*assignments):
    with pytest.raises(SpecError) as caught:
        edit(ROOT, assignments)
    (found,) = caught.value.faults
    return found


def test_a_choice_that_is_a_list_of_one_takes_settings_as_the_choice_does():
    window = {"window": 7, "shift": "half"}
    made = edited("block.mixer=[{window_attention: {window: 7}}]", "block.mixer.window_attention.shift=half")
    assert made["block"]["mixer"] == [{"window_attention": window}]
    assert edited("block.mixer=[pooling]", "block.mixer.pooling.window=5")["block"]["mixer"] == [
        {"pooling": {"window": 5}}
    ]
    assert "none of its items" in fault("block.mixer=[pooling]", "block.mixer.attention.heads=5").message


def test_a_key_of_an_item_is_replaced_or_added_and_the_rest_stays():
    assert edited("stages.1.mixer=pooling", "stages.0.dim=64", "classes=10") == {
        **plain(ROOT),
        "stages": [{"dim": 64, "depth": 2}, {"dim": 192, "depth": 2, "mixer": "pooling"}],
        "classes": 10,
    }


def test_the_tree_that_is_edited_stays_as_it_was():
    before = plain(ROOT)
    edited("net=masked_autoencoder", "stages.0.dim=1")
    assert plain(ROOT) == before


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("pooling", "pooling"),
        ("[2, 2]", [2, 2]),
        ("{window_attention: {window: 7}}", {"window_attention": {"window": 7}}),
        ("1e-6", 1e-6),
        ("no", "no"),
        ("", None),
        ("'3'", "3"),
        ("a=b", "a=b"),
        ("9 # a comment", 9),
        ("\n- 1\n- 2", [1, 2]),
    ],
)
def test_the_value_is_yaml(text, value):
    assert edited(f"new={text}")["new"] == value


def test_a_later_assignment_wins_and_builds_on_earlier_ones():
    assert edited("a.b=1", "a.c=2", "a.b=3")["a"] == {"b": 3, "c": 2}


def test_a_bare_choice_opens_up_for_its_own_settings():
    assert edited("block.mixer.window_attention.window=8")["block"]["mixer"] == {"window_attention": {"window": 8}}


def test_keys_that_are_missing_on_the_way_are_made():
    assert edited("decoder.position.learned.init=0.02")["decoder"] == {"position": {"learned": {"init": 0.02}}}


def test_whole_lists_and_items_are_replaced():
    assert edited("stages=[{dim: 1}]")["stages"] == [{"dim": 1}]
    assert edited("stages.1={dim: 1}")["stages"] == [{"dim": 96, "depth": 2}, {"dim": 1}]


@pytest.mark.parametrize(
    ("assignment", "message", "column", "help"),
    [
        ("stages", "`stages` sets nothing: there is no `=`", 1, "write `path=value`"),
        ("=1", "an empty name in the path", 1, "write `path=value`"),
        ("a..b=1", "an empty name in the path", 3, "write `path=value`"),
        ("a =1", "a space in the path", 1, "write `path=value`"),
        ("stages.2.dim=4", "`stages` is a list of 2; `2` is none of its items", 8, "its items are 0 or 1"),
        ("stages.-1.dim=4", "`stages` is a list of 2; `-1` is none of its items", 8, "its items are 0 or 1"),
        ("stages.x=4", "`stages` is a list of 2; `x` is none of its items", 8, "its items are 0 or 1"),
        ("stages.\u0661=4", "`stages` is a list of 2; `\u0661` is none of its items", 8, "its items are 0 or 1"),
        ("stages." + "9" * 5000 + "=4", None, 8, "its items are 0 or 1"),
        ("block.0=1", "`block` is a mapping, not a list", 7, "its keys are `norm`, `mixer` and `mlp`"),
        ("0=1", "a spec is a mapping, not a list", 1, "its keys are"),
        ("new.0=1", "`new` is not a list", 5, "set it whole: `new=[...]`"),
        ("net.0=1", "`net` is `classifier`, not a list", 5, "set it whole"),
        ("block.mixer.pooling.size=3", "`block.mixer` is `window_attention` and has no `pooling`", 13, "set it whole"),
        ("head.norm=x", "`head` is empty and has no `norm`", 6, "set it whole"),
        ("a=[1,", "`[` is not closed", 3, "close it"),
        ("a={b: 1, b: 2}", "duplicate key `b`", 10, "keep one"),
        ("日本=.nan", "`.nan` is not a finite number", 4, "write a plain"),
        ("a=\x1b[1m", "a spec cannot hold the character U+001B", 3, "delete it"),
        ("a=!x y", "tags are not part of the language", 3, "delete it"),
        (".".join("a" * 40) + "=1", "a path of more than 32 names", 1, "write"),
    ],
)  # fmt: skip
def test_an_assignment_that_cannot_be_made_says_where_and_what_to_do(assignment, message, column, help):
    found = fault("classes=10", assignment)
    assert message is None or found.message == message
    assert (found.place.source.name, found.place.line, found.place.column) == ("--set", 1, column)
    assert found.help.startswith(help)
    assert all(line.isprintable() for line in str(found).split("\n"))


def test_faults_of_all_assignments_are_told_in_one_go():
    with pytest.raises(SpecError) as caught:
        edit(ROOT, ["a..b=1", "classes=10", "stages.9=1"])
    assert [found.place.source.text for found in caught.value.faults] == ["a..b=1", "stages.9=1"]


def test_what_was_edited_is_shown_in_the_flag():
    root = edit(ROOT, ["stages.1.mixer=poolin"])
    place = locate(root, ("stages", 1, "mixer"), value=True)
    assert str(Fault("unknown mixer `poolin`", place, "did you mean `pooling`?")).splitlines() == [
        "error: unknown mixer `poolin`",
        "  --> --set stages.1.mixer=poolin",
        "                           ^^^^^^ did you mean `pooling`?",
    ]
    assert str(Fault("no", locate(root, ("stages", 1, "mixer")))).splitlines()[-1] == " " * 21 + "^^^^^"
    assert str(locate(root, ("stages", 1, "dim"))) == "spec.yaml:6:6"


def test_pythons_set_becomes_assignments():
    assert assignments_from({"classes": 10, "stages.2.mixer": "pooling", "eps": 1e-6, "pad": True, "s": (2, 2)}) == [
        "classes=10",
        "stages.2.mixer=pooling",
        "eps=1e-06",
        "pad=true",
        "s=[2, 2]",
    ]
    assert assignments_from({"m": {"window_attention": {"window": np.int64(7), "scale": np.float32(0.5)}}}) == [
        "m={window_attention: {window: 7, scale: 0.5}}"
    ]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])).filter(lambda text: "{" not in text)
    | st.sampled_from(["true", "no", "~", "1e-6", "", "a: b", "#x", "- a", "&a", "'", '"', "\\", "a\nb", "\U0001f600"]),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text("ab1-: ", min_size=1), child, max_size=3),
    max_leaves=8,
)


@given(values)
def test_a_python_value_comes_back_as_it_was(value):
    found = edited(*assignments_from({"new": value}))["new"]
    assert found == value
    assert repr(found) == repr(value)  # tells 1 from 1.0 and True


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", 1j])
def test_a_python_value_that_yaml_cannot_hold_is_refused(value):
    with pytest.raises(InputError, match="which YAML cannot hold"):
        assignments_from({"a": value})


def test_a_value_that_holds_itself_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(InputError, match="nested deeper than 32"):
        assignments_from({"a": loop})


@pytest.mark.parametrize("path", [1, "a=b"])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(InputError, match="is not a path"):
        assignments_from({path: 1})


def test_a_number_that_is_not_finite_is_a_fault_of_the_value():
    assert fault(*assignments_from({"a": math.inf})).message == "`.inf` is not a finite number"


@given(st.text(st.characters()) | st.text(st.sampled_from(list("stages.019=[]{}:,ab-&* \n"))))
def test_any_assignment_is_made_or_is_a_spec_error(text):
    told = ""
    try:
        edit(ROOT, [text, f"stages.{text}", f"block={text}"])
    except SpecError as error:
        told = str(error)
    assert all(line.isprintable() for line in told.split("\n"))
