"""An export on the disk: whole or as it was."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from metablocks.bench.report import writing
from metablocks.core.errors import StoreError


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    writing.write(path, "one")
    writing.write(path, "two \u00b5\n")
    assert path.read_bytes() == "two \u00b5\n".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="modes of files are POSIX")
def test_a_new_file_is_as_readable_as_any_and_an_old_one_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    before = os.umask(0o027)
    try:
        writing.write(path, "one")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o604)
    writing.write(path, "two")
    assert path.stat().st_mode & 0o777 == 0o604


def test_a_disk_that_is_full_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.html"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        writing.write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "target.html"
    link = tmp_path / "link.html"
    link.symlink_to(target)
    writing.write(link, "text")
    assert link.is_symlink()
    assert target.read_text() == "text"


def test_what_is_no_file_is_written_through() -> None:
    writing.check(Path(os.devnull))
    writing.write(Path(os.devnull), "text")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize(("place", "words"), [("missing/out.html", "no folder"), ("", "is a folder")])
def test_a_place_that_cannot_be_is_told_before_anything_is_written(tmp_path: Path, place: str, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        writing.check(tmp_path / place)
