"""What is in the wheel, and that its specs are found from there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROBES = {
    "specs": "from metablocks.core import shipped as s; print(s.shipped_dir(), *s.shipped_names(), sep='\\n')",
    "bench/suites": "from metablocks.core import shipped as s; print(s.suites_dir(), *s.suite_names(), sep='\\n')",
}
INSTALLED = {"specs": "metablocks/_specs", "bench/suites": "metablocks/_suites"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout. Built without isolation, so that no index is needed."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


def contents(wheel: Path) -> set[str]:
    """The files in the wheel, without its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def files(folder: str) -> set[str]:
    """The files of `folder` as paths from the root, without what Python, an editor or the system leaves behind."""
    found = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts and not path.name.startswith(".")}


def test_the_wheel_holds_the_package_the_specs_and_the_suites_and_nothing_else(wheel: Path) -> None:
    data = {name.replace(folder, there, 1) for folder, there in INSTALLED.items() for name in files(folder)}
    assert contents(wheel) == files("metablocks") | data


def test_the_wheel_is_marked_as_typed(wheel: Path) -> None:
    assert "metablocks/py.typed" in contents(wheel)


def test_the_wheel_holds_no_tests_and_no_results(wheel: Path) -> None:
    assert not [name for name in contents(wheel) if name.startswith(("tests/", "bench/")) or "test_" in name]


@pytest.mark.parametrize("folder", PROBES)
def test_specs_and_suites_are_found_in_the_wheel_from_an_empty_folder(wheel: Path, tmp_path: Path, folder: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    probe = [sys.executable, "-c", PROBES[folder]]
    done = subprocess.run(probe, cwd=empty, env=environment, capture_output=True, text=True, check=True)
    found, *names = done.stdout.splitlines()
    assert Path(found) == (tmp_path / "site" / INSTALLED[folder]).resolve()
    assert names == sorted(path.stem for path in (ROOT / folder).glob("*.yaml"))


@pytest.mark.parametrize("folder", PROBES)
def test_specs_and_suites_are_found_in_a_checkout(folder: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    probe = [sys.executable, "-c", PROBES[folder]]
    done = subprocess.run(probe, env=environment, capture_output=True, text=True, check=True)
    found, *names = done.stdout.splitlines()
    assert Path(found) == ROOT / folder
    assert names == sorted(path.stem for path in (ROOT / folder).glob("*.yaml"))
