"""The specs and suites that come with the package. No torch, no YAML here: names and paths only."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_dir() -> Path:
    """The folder of the shipped specs: `_specs` inside an installed package, `specs` beside it in a checkout."""
    return _folder("_specs", "specs")


def shipped_names() -> list[str]:
    """The names of all shipped networks, sorted; a name is the name of its file."""
    return _names(shipped_dir())


def shipped_path(name: str) -> Path | None:
    """The spec called `name`, or None. A name is never taken apart as a path."""
    return shipped_dir() / f"{name}.yaml" if name in shipped_names() else None


def suites_dir() -> Path:
    """The folder of the shipped suites: `_suites` inside an installed package, `bench/suites` in a checkout."""
    return _folder("_suites", "bench/suites")


def suite_names() -> list[str]:
    """The names of all shipped suites, sorted."""
    return _names(suites_dir())


def suite_path(name: str) -> Path | None:
    """The suite called `name`, or None."""
    return suites_dir() / f"{name}.yaml" if name in suite_names() else None


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _folder(installed: str, in_checkout: str) -> Path:
    inside = _PACKAGE / installed
    # beside an installed package lie the packages of others; only a checkout has a pyproject.toml there
    beside = not inside.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file()
    return _PACKAGE.parent / in_checkout if beside else inside
