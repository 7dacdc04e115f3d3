"""The specs that come with the package. No torch, no YAML here: names and paths only."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_dir() -> Path:
    """The folder of the shipped specs: `_specs` inside an installed package, `specs` beside it in a checkout."""
    inside, beside = _PACKAGE / "_specs", _PACKAGE.parent / "specs"
    # beside an installed package lie the packages of others; only a checkout has a pyproject.toml there
    in_checkout = not inside.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file()
    return beside if in_checkout else inside


def shipped_names() -> list[str]:
    """The names of all shipped networks, sorted; a name is the name of its file."""
    return sorted(path.stem for path in shipped_dir().glob("*.yaml"))


def shipped_path(name: str) -> Path | None:
    """The spec called `name`, or None. A name is never taken apart as a path."""
    return shipped_dir() / f"{name}.yaml" if name in shipped_names() else None
