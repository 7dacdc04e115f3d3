"""Files: what is read, and what is refused as what it is."""

import os

import pytest

from metablocks.core.errors import Fault, InputError, MetablocksError, SpecError, StoreError
from metablocks.spec.syntax import parse, read_source
from metablocks.spec.tree import plain

MEG = 1 << 20


def refused(path, kind=InputError):
    with pytest.raises(MetablocksError) as caught:
        parse(read_source(path))
    assert isinstance(caught.value, kind)
    return str(caught.value)


def test_a_file_is_read_as_its_name_and_text(tmp_path):
    path = tmp_path / "a b.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\n")
    source = read_source(path)
    assert (source.name, plain(parse(source))) == (str(path), {"a": 1})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"\x1f\x8b\x08\x00", "a gzip file"),
        (b"PK\x03\x04" + b"\0" * MEG, "a zip archive"),
        (b"\x7fELF\x02", "a program"),
        (b"\x80\x04\x95", "a Python pickle"),
        ("a: 1".encode("utf-16"), "the file is UTF-16"),
        ("a: 1".encode("utf-16-le"), "looks like UTF-16"),
        ("a: 1\nname: é\n".encode("latin-1"), "byte 0xe9 at offset 11"),
        (b"a: \xc0\xaf", "not UTF-8"),
        (b"a: \xed\xa0\x80", "not UTF-8"),
        (b"#" * (MEG + 1), "larger than 1 MiB"),
        (b"", "the spec is empty"),
    ],
)
def test_a_file_that_is_not_a_text_is_told_as_what_it_is(tmp_path, data, words):
    path = tmp_path / "spec.yaml"
    path.write_bytes(data)
    assert words in refused(path, SpecError)


def test_the_first_byte_that_is_not_utf_8_has_its_place(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_bytes("日: 1\nname: é\n".encode()[:-3] + b"\xe9\n")
    text = refused(path)
    assert f"{path}:2:7" in text
    assert "`é` in Latin-1" in text


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refused(tmp_path / "pipe")
    assert "is not a regular file" in refused("/dev/zero")
    assert "is a folder" in refused(tmp_path)
    assert "there is no file" in refused(tmp_path / "none.yaml")
    assert "there is no file" in refused(tmp_path / "none.yaml" / "deeper")
    assert "there is no file" in refused("a\0b")
    assert "\x1b" not in refused("a\x1b[1m")


def test_a_file_that_cannot_be_read_is_a_matter_of_the_store(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refused(tmp_path / "loop", StoreError).startswith("error: cannot read")
    assert "too long" in refused("x" * 5000, StoreError)
    path = tmp_path / "spec.yaml"
    path.write_text("a: 1")

    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)
    assert "Permission denied" in refused(path, StoreError)


def test_a_fault_without_a_place_still_reads():
    assert str(SpecError(Fault("no"))) == "error: no"
