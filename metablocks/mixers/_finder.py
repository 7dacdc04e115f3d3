"""Mixer names to the settings and the module in their files."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from metablocks.core.errors import Fault, InputError
from metablocks.core.mixer import Mixer, MixerSettings
from metablocks.core.text import printable

T = TypeVar("T")
GROUP = "metablocks.mixers"
_HOME = Path(__file__).parent
_loose: dict[str, Path] = {}


@dataclass(frozen=True)
class Found:
    """One mixer: its settings and its module."""

    name: str
    settings: type[MixerSettings]
    module: type[Mixer]


def add_folder(folder: str | Path) -> list[str]:
    """Lets every `NAME.py` of `folder` be used as mixer NAME; returns the names. Raises `InputError`."""
    root = Path(folder)
    if not root.is_dir():
        raise InputError(Fault(f"no folder `{printable(str(folder))}`", help="--mixers takes a folder of mixer files"))
    added = {path.stem: path for path in sorted(root.glob("*.py")) if not path.stem.startswith("_")}
    for name, path in added.items():
        if not name.isidentifier():
            raise InputError(f"`{printable(path.name)}` in `{printable(str(folder))}`: a mixer's name is a Python name")
        taken = path_of(name)
        if taken is not None and taken != path.resolve():
            raise InputError(Fault(f"mixer `{name}` is in `{path}` and in `{taken}`", help="rename one of the files"))
    _loose.update({name: path.resolve() for name, path in added.items()})
    return list(added)


def names() -> list[str]:
    """The names of all mixers, without importing any."""
    own = [path.stem for path in _HOME.glob("*.py") if not path.stem.startswith("_")]
    return sorted({*own, *_installed(), *_loose})


def path_of(name: str) -> Path | None:
    """The file of mixer `name`, without importing it; None if there is no such file."""
    own = _HOME / f"{name}.py"
    if name.isidentifier() and not name.startswith("_") and own.exists():
        return own
    return _loose.get(name)


def find(name: str) -> Found | None:
    """The mixer called `name`, or None. Raises `InputError` where its file cannot be used."""
    if name not in names():
        return None
    return _load(name)


@cache
def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


@cache
def _load(name: str) -> Found:
    try:
        module = _module(name)
    except (Exception, SystemExit) as error:
        raise InputError(Fault(f"mixer `{name}` cannot be imported: {_reason(error)}", help="mend its file")) from error
    settings = _only(module, MixerSettings, name)
    mixer = _only(module, Mixer, name)
    settings.name, settings.label = name, f"mixer `{name}`"
    mixer.settings = settings
    return Found(name, settings, mixer)


def _module(name: str) -> ModuleType:
    if (_HOME / f"{name}.py").exists():
        return importlib.import_module(f"{__package__}.{name}")
    if name not in _loose:
        loaded = _installed()[name].load()
        return loaded if isinstance(loaded, ModuleType) else importlib.import_module(loaded.__module__)
    # under a private name, so that a file called random.py shadows nothing
    spec = importlib.util.spec_from_file_location(f"_metablocks_loose_{name}", _loose[name])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _only(module: ModuleType, base: type[T], name: str) -> type[T]:
    """The one class in the file that extends `base`."""
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        message = f"mixer `{name}`: its file holds {len(own)} classes that extend `{base.__name__}`, it must hold one"
        raise InputError(Fault(message, help="see `metablocks mixers pooling` for the shape of a mixer file"))
    return own[0]


def _reason(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return printable(f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})", limit=300)
