"""Any text whatever is a tree or an error in our words."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metablocks.core.errors import Source, SpecError
from metablocks.spec.syntax import parse
from metablocks.spec.tree import Mapping

SWIN = """# Swin-T
net: classifier
block:                                  # every block
  mixer:
    - window_attention: {window: 7, head_dim: 32}
    - window_attention: {window: 7, head_dim: 32, shift: half}
stages:
  - {dim: 96,  depth: 2}
  - dim: 192
    depth: 2
eps: 1e-6
"name": 'it''s'
"""


def check(text):
    """That `text` is a tree, or an error in our words that a terminal can show."""
    told = None
    try:
        root = parse(Source("spec.yaml", text))
    except SpecError as error:
        told = error
    if told is None:
        assert isinstance(root, Mapping)
        return
    assert all(line.isprintable() for line in str(told).split("\n"))
    for fault in told.faults:
        assert 1 <= fault.place.line <= len(fault.place.source.lines)
        assert 1 <= fault.place.column <= len(fault.place.source.line(fault.place.line)) + 1
        assert "this is not YAML" not in fault.message


MARKS = st.sampled_from(list("ab10:-[]{},&*!|>'\"%@`#?~<= \t\n\r\\.$\ufeff\u00a0\x00"))


@given(st.text(st.characters()) | st.text(MARKS))
@example("? !\n- |")
@example("!\n")
@example("---\n#")
@example("a: x\n \u00a0")
@example("a: !x\n\n")
@example("!b\t[  ")
def test_any_text_is_a_tree_or_a_spec_error(text):
    check(text)


@given(st.integers(0, len(SWIN)), st.integers(0, 9), st.text(MARKS, max_size=4))
def test_any_damage_to_a_spec_leaves_a_tree_or_a_spec_error(at, cut, put):
    check(SWIN[:at] + put + SWIN[at + cut :])


@pytest.mark.parametrize("length", range(len(SWIN)))
def test_a_file_cut_anywhere_is_a_tree_or_a_spec_error(length):
    check(SWIN[:length])
