"""Which subjects a suite asks for and under which conditions; which cases that makes, and which are run in turns."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metablocks.bench.subject import PEERS, Subject, planned, subject
from metablocks.bench.suite import (
    Conditions,
    Wanted,
    cases,
    is_suite,
    pairs,
    read_suite,
    subjects,
    suite_names,
)
from metablocks.core.errors import InputError, MissingError, SpecError
from metablocks.core.shipped import shipped_names
from metablocks.spec import read

TINY = Path(__file__).parent / "tiny.yaml"
DEVICES = ("cpu", "cuda", "mps")
SUITE = """\
subjects: [swin_t, {name: swin_t, set: {stages.2.mixer: pooling, image.size: [448, 448]}}]
mode: [infer, train]
image: [224, [224, 192]]
seconds: 2
on:
  cuda: {batch: [64, 256], mode: infer, subjects: vit_b16}
"""


# what a suite says


def test_a_list_may_be_given_as_its_one_item() -> None:
    one = read_suite("subjects: swin_t\nmode: train\nimage: 192\n")
    assert one.subjects == (Wanted("swin_t"),)
    assert one.conditions == Conditions(modes=("train",), images=((192, 192),))


def test_a_list_of_two_numbers_is_two_images_and_a_list_in_it_one() -> None:
    assert read_suite(SUITE).conditions.images == ((224, 224), (224, 192))


def test_edits_are_what_the_flag_would_take() -> None:
    _, edited = read_suite(SUITE).subjects
    assert edited == Wanted("swin_t", ("stages.2.mixer=pooling", "image.size=[448, 448]"))
    assert read("swin_t", edited.edits).resolved()["image"]["size"] == [448, 448]


def test_a_device_replaces_a_key_whole_and_leaves_the_others() -> None:
    found = read_suite(SUITE, "cuda:1")
    assert found.subjects == (Wanted("vit_b16"),)
    assert found.conditions == Conditions(("infer",), (64, 256), ((224, 224), (224, 192)), device="cuda:1", seconds=2.0)
    assert read_suite(SUITE, "mps") == replace(
        read_suite(SUITE), conditions=replace(read_suite(SUITE).conditions, device="mps")
    )


def test_what_a_suite_leaves_out_is_what_a_bench_without_options_does() -> None:
    assert read_suite("subjects: swin_t\n").conditions == Conditions()


def test_a_subject_with_others_against_it_is_a_group_of_its_own() -> None:
    text = "subjects:\n  - a\n  - {name: b, against: [c, {name: d, set: {classes: 5}}]}\n  - e\n"
    groups = read_suite(text).groups
    assert groups == ((Wanted("a"), Wanted("e")), (Wanted("b"), Wanted("c"), Wanted("d", ("classes=5",))))
    assert [(one.place.line, one.place.column) for group in groups for one in group if one.place] == [
        (2, 5),
        (4, 5),
        (3, 5),
        (3, 25),
        (3, 28),
    ]


# what a suite is


@pytest.mark.parametrize(
    "text", [SUITE, "# why\n\nsubjects: a\n", '{"subjects": [a]}\n', "\ufeff--- \nsubjects:\n- a\n"]
)
def test_a_file_with_the_key_subjects_is_a_suite(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    assert is_suite(path)
    assert is_suite(str(path))
    assert read_suite(path).name == "mine"


@pytest.mark.parametrize(
    "source", ["timm:resnet50", "net.py:make", "nowhere.yaml", "", "\0", "x: {subjects: 3}\n", TINY]
)
def test_other_subjects_are_no_suites(source: str | Path) -> None:
    assert not is_suite(source)


@pytest.mark.parametrize(
    "data", [b"\x80\x04subjects:", b"\xff\nsubjects: a", b"a: subjects:\n", b"subjects: a\n" * 10**6]
)
def test_no_file_is_too_odd_to_be_asked(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "odd.pth"
    path.write_bytes(data)
    assert not is_suite(path)
    assert not is_suite(tmp_path)


@given(st.text())
def test_no_text_is_too_odd_to_be_asked(text: str) -> None:
    assert is_suite(text) in (True, False)


def test_no_suite_has_the_name_of_a_spec_and_the_spec_would_win(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not set(suite_names()) & set(shipped_names())
    assert is_suite("headline")
    monkeypatch.setattr("metablocks.bench.suite.shipped_path", lambda name: TINY if name == "headline" else None)
    assert not is_suite("headline")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("headlin", "no suite called `headlin`.*did you mean `headline`"),
        ("nowhere.yaml", "no file `nowhere.yaml`"),
        (TINY, "`tiny` is not a suite.*subjects"),
    ],
)
def test_what_is_not_a_suite_is_refused_in_words(source: str | Path, told: str) -> None:
    with pytest.raises(InputError) as raised:
        read_suite(source)
    assert re.search(told, str(raised.value), re.DOTALL)


# the shipped suites


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", suite_names())
def test_a_shipped_suite_makes_cases_on_every_device(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("metablocks.build"), "device_of", str)  # every device is here
    monkeypatch.setattr(import_module("metablocks.kernels.choice"), "chosen", lambda _: "reference")
    suite = read_suite(name, device)
    for group in suite.groups:
        specs = [wanted for wanted in group if wanted.source.partition(":")[0] not in PEERS]
        made = subjects(specs, suite.conditions) + [
            Subject("timm", one.source, one.source, "") for one in group if one not in specs
        ]
        assert pairs(cases(made, suite.conditions))


@pytest.mark.parametrize("name", suite_names())
def test_a_shipped_suite_begins_with_what_it_is_for(name: str) -> None:
    from metablocks.core.shipped import suites_dir

    assert (suites_dir() / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")


def test_the_headline_on_a_cpu_is_at_most_two_small_networks_in_evaluation() -> None:
    suite = read_suite("headline")
    assert len(suite.subjects) <= 2
    assert suite.conditions.modes == ("infer",)
    assert suite.conditions.processes >= 3


# subjects


def test_every_subject_comes_at_every_image() -> None:
    found = subjects([Wanted(str(TINY))], Conditions(images=((16, 16), (32, 16), (16, 16))))
    assert [one.image for one in found] == [(16, 16), (32, 16)]
    assert [one.spec["image"]["size"] for one in found if one.spec] == [[16, 16], [32, 16]]


def test_edits_of_the_command_line_go_over_those_of_the_suite() -> None:
    (found,) = subjects([Wanted(str(TINY), ("classes=5",))], Conditions(), ["classes=7"])
    assert found.edits == ("classes=5", "classes=7")
    assert found.spec is not None
    assert found.spec["classes"] == 7


def test_a_spec_that_does_not_fit_an_image_is_named_with_the_image() -> None:
    with pytest.raises(SpecError) as raised:
        subjects([Wanted(str(TINY)), Wanted("swin_t")], Conditions(images=((16, 16), (240, 224))))
    told = [fault.message for fault in raised.value.faults]
    assert len(told) >= 2
    assert all(message.startswith(("swin_t at 16 px: ", "swin_t at 240 x 224 px: ")) for message in told)


def test_all_faults_of_all_subjects_are_told_once_at_their_place_in_the_suite() -> None:
    suite = read_suite("subjects: [swin_x, {name: vit_s16, set: {clases: 5}}, swin_t]\n")
    with pytest.raises(InputError) as raised:
        subjects(suite.groups[0], Conditions(images=((224, 224), (256, 256))))
    told = {fault.message: str(fault.place) for fault in raised.value.faults if "px" not in fault.message}
    assert told == {
        "no spec called `swin_x`, and no file of that name": "<text>:1:12",
        "unknown key `clases` in net `classifier`": "--set clases=5",
    }


def test_a_missing_peer_is_told_as_missing_unless_something_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metablocks.bench.subject.find_spec", {}.get)
    with pytest.raises(MissingError):
        subjects([Wanted("timm:resnet50")], Conditions())
    with pytest.raises(InputError) as raised:
        subjects([Wanted("timm:resnet50"), Wanted("swin_x")], Conditions())
    assert len(raised.value.faults) == 2


# and a subject itself


def test_asking_what_is_a_suite_imports_no_torch() -> None:
    code = (
        "import sys; from metablocks.bench.suite import is_suite; is_suite(sys.argv[1]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(TINY)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_a_subject_is_frozen_with_its_edits_and_keeps_the_digest_of_its_spec() -> None:
    found = subject(TINY, ["classes=7"])
    assert found.edits == ("classes=7",)
    assert found.spec is not None
    assert found.spec["classes"] == 7
    assert found.digest == read(TINY, ["classes=7"]).digest
    head = planned(found).head
    assert head is not None
    assert head.classes == 7


def test_a_spec_that_does_not_plan_is_told_before_any_case_runs() -> None:
    with pytest.raises(SpecError):
        subject(TINY, ["image.size=17"])


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_spec_reads_back_from_what_a_worker_is_sent(name: str) -> None:
    sent = subject(name)
    assert read(sent.text).digest == sent.digest
