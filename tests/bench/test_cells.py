"""Which cases subjects and conditions make, and which of them are run in turns."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metablocks.bench.case import COMPILES, DTYPES, MODES, Case
from metablocks.bench.subject import Subject
from metablocks.bench.suite import Conditions, Wanted, cases, pairs, subjects
from metablocks.core.errors import InputError, MissingError

TINY = Path(__file__).parent / "tiny.yaml"


def network(name: str, net: str = "classifier", image: tuple[int, int] | None = None) -> Subject:
    """A subject that nobody plans."""
    return Subject("spec", name, name, f'{{"net": "{net}"}}', image=image)


def peer(name: str, image: tuple[int, int] | None = None) -> Subject:
    return Subject("timm", f"timm:{name}", f"timm:{name}", name, image=image)


def label(case: Case) -> str:
    return f"{case.subject.name} {case.compile}"


def labels(found: list[tuple[Case, ...]]) -> list[tuple[str, ...]]:
    return [tuple(label(case) for case in pair) for pair in found]


def test_conditions_have_the_defaults_of_a_case() -> None:
    case, conditions = Case(network("a")), Conditions()
    assert (conditions.modes, conditions.batches, conditions.dtypes) == ((case.mode,), (case.batch,), (case.dtype,))
    assert conditions.compiles == (case.compile,)
    shared = asdict(conditions).keys() & asdict(case).keys()
    assert len(shared) == 8
    assert all(getattr(case, key) == getattr(conditions, key) for key in shared)


def test_the_words_of_a_suite_are_those_of_a_case() -> None:
    from metablocks.bench.suite_grammar import Compile, Dtype, Mode

    assert (get_args(Mode), get_args(Dtype), get_args(Compile)) == (MODES, DTYPES, COMPILES)


# cases


def test_every_subject_is_measured_under_every_combination_once() -> None:
    one = network("a")
    wanted = Conditions(batches=(1, 8, 1), dtypes=("float32", "bfloat16"), compiles=("none", "block", "none"))
    found = cases([one, one], wanted)
    assert len(found) == len(set(found)) == 8
    assert {(case.batch, case.dtype, case.compile) for case in found} == {
        (batch, dtype, how) for batch in (1, 8) for dtype in ("float32", "bfloat16") for how in ("none", "block")
    }


def test_a_network_without_our_blocks_is_compiled_whole_where_blocks_are_asked_for() -> None:
    found = cases([network("a"), peer("b")], Conditions(compiles=("block", "model")))
    assert [label(case) for case in found] == ["a block", "a model", "timm:b model"]


def test_checkpointing_is_for_the_modes_that_train() -> None:
    found = cases([network("a")], Conditions(("infer", "train"), checkpoint=True))
    assert {case.mode: case.checkpoint for case in found} == {"infer": False, "train": True}


def test_all_faults_of_the_conditions_are_told_at_once() -> None:
    wrong = Conditions(
        ("dream", "infre"), (0, 8), ((0, 4),), ("int8",), ("fast",), seconds=math.nan, processes=0, limit_s=-1
    )
    with pytest.raises(InputError) as raised:
        cases([], wrong)
    assert len(raised.value.faults) == 9
    assert "did you mean `infer`?" in str(raised.value)


@pytest.mark.parametrize("key", ["modes", "batches", "dtypes", "compiles"])
def test_a_condition_without_a_choice_is_refused_and_makes_no_empty_run(key: str) -> None:
    with pytest.raises(InputError, match=r"no .* given"):
        cases([network("a")], replace(Conditions(), **{key: ()}))


@pytest.mark.parametrize(
    ("made", "mode", "help"),
    [
        (network("m", "masked_autoencoder"), "train", "use mode `pretrain`"),
        (network("c"), "pretrain", "use mode `train`"),
        (peer("p"), "pretrain", "use mode `train`"),
    ],
)
def test_a_mode_that_a_subject_does_not_have_is_refused_with_the_one_it_has(
    made: Subject, mode: str, help: str
) -> None:
    with pytest.raises(InputError, match=f"{made.name}.*{help}|{made.name}(.|\n)*{help}"):
        cases([made], Conditions((mode,)))


@pytest.mark.parametrize(
    ("made", "modes"),
    [
        (network("m", "masked_autoencoder"), ("infer", "pretrain")),
        (peer("p"), ("infer", "train")),
        (replace(peer("f.py:make"), kind="file"), ("infer", "train", "pretrain")),
    ],
)
def test_a_mode_that_a_subject_has_is_taken(made: Subject, modes: tuple[str, ...]) -> None:
    assert [case.mode for case in cases([made], Conditions(modes))] == list(modes)


def test_a_share_of_the_activations_is_for_the_modes_that_train() -> None:
    found = cases([network("a")], Conditions(("infer", "train"), compiles=("block",), checkpoint=0.5))
    assert {case.mode: case.checkpoint for case in found} == {"infer": False, "train": 0.5}


def test_nothing_is_left_to_checkpoint_without_a_backward_pass() -> None:
    with pytest.raises(InputError, match="backward"):
        cases([network("a")], Conditions(checkpoint=True))


@pytest.mark.parametrize(("device", "kind"), [("tpu", InputError), ("cuda:77", MissingError)])
def test_a_device_that_is_not_there_is_refused_after_all_else(device: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=device):
        cases([network("a")], Conditions(device=device))
    with pytest.raises(InputError, match="dream"):
        cases([network("a")], Conditions(("dream",), device=device))


def test_a_run_has_at_most_a_thousand_cases_and_is_not_expanded_to_find_out() -> None:
    batches = tuple(range(1, 1001))
    assert len(cases([network("a")], Conditions(batches=batches))) == 1000
    images = tuple((side, side) for side in range(1, 100_001))
    for many in (Conditions(batches=(*batches, 1001)), Conditions(batches=batches, images=images)):
        with pytest.raises(InputError, match="cases, and a run has at most 1,000"):
            subjects([Wanted("nowhere")], many)
    with pytest.raises(InputError, match="2,000 cases"):
        cases([network("a"), network("b")], Conditions(batches=batches))


# pairs


def test_subjects_are_measured_in_turns_with_the_first() -> None:
    made = [network("a"), network("b"), network("c")]
    assert labels(pairs(cases(made, Conditions(compiles=("none", "block"))))) == [
        ("a none", "b none"),
        ("a block", "b block"),
        ("a none", "c none"),
        ("a block", "c block"),
    ]


def test_ways_to_compile_one_subject_are_measured_in_turns_with_the_first() -> None:
    found = pairs(cases([network("a")], Conditions(compiles=("none", "block", "model"))))
    assert labels(found) == [("a none", "a block"), ("a none", "a model")]


def test_a_case_without_a_partner_is_alone() -> None:
    found = pairs(cases([network("a")], Conditions(batches=(1, 8))))
    assert [[case.batch for case in pair] for pair in found] == [[1], [8]]


@pytest.mark.parametrize("made", [[network("a"), peer("b")], [peer("b"), network("a")]])
def test_blocks_are_held_against_the_whole_of_a_network_without_our_blocks(made: list[Subject]) -> None:
    found = labels(pairs(cases(made, Conditions(compiles=("none", "block")))))
    assert [set(pair) for pair in found] == [{"a none", "timm:b none"}, {"a block", "timm:b model"}]
    assert all(pair[0].startswith(made[0].name) for pair in found)
    both = pairs(cases(made, Conditions(compiles=("block", "model"))))
    assert [set(pair) for pair in labels(both)] == [{"a block", "timm:b model"}, {"a model", "timm:b model"}]


def test_subjects_of_unlike_images_are_never_measured_in_turns() -> None:
    images = ((16, 16), (32, 32))
    found = subjects([Wanted(str(TINY)), Wanted(str(TINY), ("classes=7",))], Conditions(images=images))
    for pair in pairs(cases(found, Conditions(images=images))):
        assert len({case.subject.image for case in pair}) == 1
        assert len(pair) == 2


choices = st.builds(
    Conditions,
    st.lists(st.sampled_from(["infer", "train"]), min_size=1, max_size=3).map(tuple),
    st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=1, max_size=3).map(tuple),
    compiles=st.lists(st.sampled_from(COMPILES), min_size=1, max_size=4).map(tuple),
    channels_last=st.booleans(),
)
made_subjects = st.lists(
    st.builds(
        lambda make, name, image: make(name, image=image),
        st.sampled_from([network, peer]),
        st.sampled_from("abc"),
        st.sampled_from([None, (224, 224)]),
    ),
    min_size=1,
    max_size=6,
)


@given(made_subjects, choices)
def test_cases_are_never_twice_there_and_none_is_forgotten(made: list[Subject], conditions: Conditions) -> None:
    found = cases(made, conditions)
    assert len(found) == len(set(found))
    asked = {
        (one, mode, batch, dtype, "model" if how == "block" and one.kind != "spec" else how)
        for one in made
        for mode in conditions.modes
        for batch in conditions.batches
        for dtype in conditions.dtypes
        for how in conditions.compiles
    }
    assert {(case.subject, case.mode, case.batch, case.dtype, case.compile) for case in found} == asked


@given(made_subjects, choices, st.randoms(use_true_random=False), st.floats(0, 1))
def test_pairs_hold_every_case_and_only_like_ones_together(
    made: list[Subject], conditions: Conditions, rng: random.Random, share: float
) -> None:
    whole = cases(made, conditions)
    few = rng.sample(whole, max(1, int(share * len(whole))))  # any cases, not only whole products
    found = pairs(few)
    assert {case for pair in found for case in pair} == set(few)
    assert len(found) == len(set(found))
    for pair in found:
        assert len(set(pair)) == len(pair) <= 2
        if len(pair) == 2:
            base, other = pair
            assert replace(base, subject=other.subject, compile=other.compile, kernels=other.kernels) == other
            assert base.subject.image == other.subject.image
            if base.subject != other.subject and base.compile != other.compile:
                # one of the two has no blocks, and its whole stands for them
                assert {base.compile, other.compile} == {"block", "model"}
                assert next(case for case in pair if case.compile == "model").subject.kind != "spec"
