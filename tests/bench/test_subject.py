"""What is measured, by what the user calls it: frozen as text, every fault of it told before a worker starts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from metablocks.bench.case import dump, load
from metablocks.bench.subject import LARGEST_FILE, Subject, planned, subject
from metablocks.core.errors import InputError, MissingError, SpecError
from metablocks.spec import read

from .conftest import MIXERS, TINY, of_file

FUNCTION = "import torch\ndef net():\n    return torch.nn.Linear(3, 3)\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FUNCTION)
    return path


def test_a_spec_by_path_by_name_as_text_and_as_a_spec_is_frozen_whole() -> None:
    by_path = subject(TINY)
    assert (by_path.kind, by_path.name, by_path.given) == ("spec", "tiny", str(TINY))
    assert by_path.spec == read(TINY).resolved()
    assert by_path.digest == read(TINY).digest
    for other in (subject(str(TINY)), subject(TINY.read_text()), subject(read(TINY))):
        assert (other.text, other.digest) == (by_path.text, by_path.digest)
    assert subject("swin_t").name == "swin_t"


def test_an_edited_spec_is_another_subject_with_its_edits_in_its_name() -> None:
    edited = subject(TINY, ["classes=7"])
    assert (edited.name, edited.edits) == ("tiny classes=7", ("classes=7",))
    assert edited.spec is not None
    assert edited.spec["classes"] == 7
    assert edited.digest != subject(TINY).digest


def test_an_image_size_goes_into_a_spec() -> None:
    sized = subject(TINY, image=(24, 32))
    assert sized.spec is not None
    assert sized.spec["image"]["size"] == [24, 32]
    assert planned(sized).encoder.stem.image == (24, 32)
    with pytest.raises(SpecError):
        subject(TINY, image=(23, 32))


def test_mixers_of_a_folder_travel_with_the_subject() -> None:
    found = subject(TINY, ["block.mixer={faulty: {fault: raise}}"], [MIXERS])
    assert found.mixers == (str(MIXERS),)
    assert load(dump(of_file("a_mess"))).subject == of_file("a_mess").subject
    planned(found)


@pytest.mark.parametrize("wrong", ["no_such_spec", str(TINY.parent), "net: classifier\n"])
def test_a_spec_that_is_none_is_told(wrong: str) -> None:
    with pytest.raises(InputError):
        subject(wrong)


def test_a_function_of_a_file_is_frozen_as_the_source_that_it_was(file: Path) -> None:
    made = subject(f"{file}:net")
    assert (made.kind, made.name, made.text) == ("file", "mine.py:net", FUNCTION)
    assert made.given == f"{file}:net"
    digest = made.digest
    file.write_text(FUNCTION + "# changed\n")
    assert made.text == FUNCTION
    assert made.digest == digest != subject(f"{file}:net").digest
    assert made.spec is None


def test_functions_and_images_of_one_file_are_other_subjects(file: Path) -> None:
    digests = {subject(f"{file}:{name}", image=image).digest for name in ("net", "new") for image in (None, (8, 8))}
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("text", "function", "words"),
    [
        (b"def net(:\n    pass\n", "net", "this is not Python\n --> "),
        (b"x = 'never ends\n", "net", "unterminated string"),
        (b"\x00\x01", "net", "not Python"),
        (b"\xff\xfe", "net", "is not UTF-8"),
        (b"x = 1\n", "no name", "no function can be called `no name`"),
        (b"x = 1\n", "", "no function can be called ``"),
        (b"#" * (LARGEST_FILE + 1), "net", "larger than 1 MiB"),
        (b"x = " + b"(" * 5_000, "net", "Python"),
    ],
)
def test_a_file_that_cannot_hold_the_function_is_told_before_anything_runs(
    tmp_path: Path, text: bytes, function: str, words: str
) -> None:
    path = tmp_path / "wrong.py"
    path.write_bytes(text)
    with pytest.raises(InputError) as told:
        subject(f"{path}:{function}")
    assert words in str(told.value)


def test_a_file_that_is_not_there_or_names_no_function_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "folder.py"
    folder.mkdir()
    for wrong, words in ((f"{tmp_path}/none.py:net", "no file"), (f"{folder}:net", "no file"),
                         (f"{tmp_path}/none.py", "names no function"), ("\x1b[31m.py:x", "\\x1b[31m")):  # fmt: skip
        with pytest.raises(InputError, match="no") as told:
            subject(wrong)
        assert words in str(told.value)
        assert "\x1b" not in str(told.value)


@pytest.mark.parametrize("peer", ["timm", "torchvision"])
def test_a_peer_that_is_not_installed_is_told_with_what_to_install(
    peer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.setattr(sys, "meta_path", [one for one in sys.meta_path if "PathFinder" in repr(one)])
    monkeypatch.delitem(sys.modules, peer, raising=False)
    with pytest.raises(MissingError, match=f"{peer} is not installed") as told:
        subject(f"{peer}:resnet\x1b50")
    assert f"help: pip install {peer}" in str(told.value)
    assert "\x1b" not in str(told.value)
    assert told.value.exit_code == 6
    with pytest.raises(InputError, match="names no network"):
        subject(f"{peer}:")


def test_a_peer_is_found_without_being_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    made = subject("timm:vit_base_patch16_224", image=(64, 64))
    assert (made.kind, made.name, made.text, made.image) == ("timm", "timm:vit_base_patch16_224",
                                                             "vit_base_patch16_224", (64, 64))  # fmt: skip


def test_a_subject_is_plain_data() -> None:
    assert json.loads(dump(of_file("a_mess")))["subject"]["kind"] == "file"
    assert Subject("timm", "timm:x", "timm:x", "x").digest != Subject("torchvision", "x", "torchvision:x", "x").digest
