"""Mutated specs: each plans, or is refused in words. Never a traceback, never a key that is dropped in silence."""

import copy
import json
import string

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import networks

import metablocks as mb
from metablocks.core.errors import MetablocksError, Source
from metablocks.core.shipped import shipped_names, shipped_path
from metablocks.spec.syntax import parse
from metablocks.spec.tree import plain

TEXTS = {name: shipped_path(name).read_text(encoding="utf-8") for name in shipped_names()}
TREES = {name: plain(parse(Source(name, text))) for name, text in TEXTS.items()}
WORDS = ["none", "half", "class", "layer_norm", "pooling", "attention", "identity", "spatial_mlp", "learned", "no", ""]
NUMBERS = [0, 1, -1, 2, 3, 7, 64, 10**6, 10**9, -(10**17), 0.5, -0.5, 1.0, 1e-300, 5e-324, 1e308, -0.0]

texts = st.sampled_from(sorted(TEXTS.values()))
trees = st.sampled_from(sorted(TREES)).map(TREES.get).map(copy.deepcopy)
leaves = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(WORDS) | st.integers() | st.text()
junk = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(), inner, max_size=4),
    max_leaves=12,
)


def nodes(node):
    """Every (container, key) below `node`."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
    for key in keys:
        yield node, key
        yield from nodes(node[key])


@st.composite
def mutated(draw):
    """A shipped spec with some of its nodes dropped, renamed, doubled, swapped or replaced."""
    tree = draw(trees)
    for _ in range(draw(st.integers(1, 3))):
        places = list(nodes(tree))
        if not places:
            break
        (inside, key), (other, key2) = draw(st.sampled_from(places)), draw(st.sampled_from(places))
        what = draw(st.sampled_from(["drop", "rename", "double", "swap", "graft", "number", "word", "junk"]))
        if what == "drop":
            del inside[key]
        elif what == "rename" and isinstance(inside, dict):
            inside[draw(st.text(max_size=9) | st.just(f"{key}s") | st.sampled_from(WORDS))] = inside.pop(key)
        elif what == "double" and isinstance(inside, list):
            inside.insert(key, copy.deepcopy(inside[key]))
        elif what == "swap":
            inside[key], other[key2] = copy.deepcopy(other[key2]), copy.deepcopy(inside[key])
        elif what == "graft":
            inside[key] = copy.deepcopy(draw(trees) if draw(st.booleans()) else other[key2])
        else:
            kinds = {"number": st.sampled_from(NUMBERS), "word": st.sampled_from(WORDS)}
            inside[key] = draw(kinds.get(what, junk))
    return tree


@st.composite
def damaged(draw):
    """The text of a shipped spec with lines and characters lost, doubled, moved or replaced."""
    text = draw(texts)
    for _ in range(draw(st.integers(1, 3))):
        start, stop = sorted(draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
        stop = min(stop, start + 40)
        piece = text[start:stop]
        new = ["", piece * 2, piece[::-1], piece.replace(":", ""), piece.replace("  ", " "), piece.upper()]
        text = text[:start] + draw(st.sampled_from(new) | st.text(max_size=5)) + text[stop:]
    return f"{text}\n"


def outcome(source, edits=()):
    """The spec if it plans, else the error that refuses it."""
    try:
        spec = mb.read(source, edits)
        mb.plan(spec)
    except MetablocksError as error:
        return error
    return spec


def is_told_in_words(error):
    """Whether an error ends with 2, has a place for each fault and is fit to print."""
    told = all(fault.message and fault.place for fault in error.faults)
    return told and error.exit_code == 2 and str(error).replace("\n", "").isprintable()


def reads_back(spec):
    again = mb.read(yaml.safe_dump(spec.resolved()))
    return again.digest == spec.digest and again.resolved() == spec.resolved() and again.net == spec.net


@settings(max_examples=300)
@given(mutated())
def test_a_mutated_tree_plans_and_reads_back_or_is_refused_in_words(tree):
    found = outcome(json.dumps(tree, indent=1))
    assert is_told_in_words(found) if isinstance(found, MetablocksError) else reads_back(found)


@settings(max_examples=200)
@given(damaged())
def test_a_damaged_text_plans_and_reads_back_or_is_refused_in_words(text):
    found = outcome(text)
    assert is_told_in_words(found) if isinstance(found, MetablocksError) else reads_back(found)


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(TREES)),
    st.lists(st.sampled_from([*"01234", "stages", "block", "mixer", "encoder", "image", "head", "dim"]) | st.text()),
    junk.map(json.dumps) | st.text(),
)
def test_any_set_plans_or_is_refused_in_words(name, path, value):
    found = outcome(name, [f"{'.'.join(path)}={value}"])
    assert is_told_in_words(found) if isinstance(found, MetablocksError) else reads_back(found)


@settings(max_examples=150)
@given(trees, st.data())
def test_an_unknown_key_is_refused_and_named_wherever_it_stands(tree, data):
    mappings = [tree] + [inside[key] for inside, key in nodes(tree) if isinstance(inside[key], dict)]
    key = f"q_{data.draw(st.text(string.ascii_lowercase, min_size=1, max_size=8))}"
    data.draw(st.sampled_from(mappings))[key] = data.draw(st.sampled_from(NUMBERS + WORDS))
    with pytest.raises(MetablocksError) as caught:
        mb.read(json.dumps(tree, indent=1))
    assert any(f"`{key}`" in fault.message for fault in caught.value.faults)


@settings(max_examples=100)
@given(trees, st.data())
def test_a_key_that_is_written_twice_is_refused(tree, data):
    inside, key = data.draw(st.sampled_from([(inside, key) for inside, key in nodes(tree) if isinstance(inside, dict)]))
    inside[f"{key}~"] = inside[key]
    with pytest.raises(MetablocksError, match=f"duplicate key `{key}`"):
        mb.read(json.dumps(tree, indent=1).replace(f"{key}~", key))


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_a_shipped_spec_reads_back_from_what_it_resolves_to(name):
    assert reads_back(mb.read(name))


@settings(max_examples=100)
@given(networks)
def test_any_network_reads_back_from_what_it_resolves_to(data):
    assert reads_back(mb.read(json.dumps(data)))


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_the_spelling_of_a_spec_is_not_in_its_digest(name):
    tree, digest = TREES[name], mb.read(name).digest
    backwards = dict(reversed(tree.items()))
    for text in (json.dumps(tree, indent=1), json.dumps(backwards, indent=1), TEXTS[name].replace("\n", "\r\n")):
        assert mb.read(text).digest == digest
