"""metablocks: a language for MetaFormer vision networks, a compiler for it, and a bench.

    spec = metablocks.read("swin_t", set={"classes": 10})
    plan = metablocks.plan(spec)
    model = metablocks.build("swin_t", device="cuda", compile="block")

Nothing is imported before it is used: torch takes seconds, and the command line answers without it where it can.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metablocks.api import (
        InputError as InputError,
        MetablocksError as MetablocksError,
        MissingError as MissingError,
        Network as Network,
        Plan as Plan,
        Spec as Spec,
        SpecError as SpecError,
        StoreError as StoreError,
        build as build,
        load_weights as load_weights,
        measure as measure,
        plan as plan,
        read as read,
    )

__version__ = "0.1.0"
_PUBLIC = ("InputError", "MetablocksError", "MissingError", "Network", "Plan", "Spec", "SpecError", "StoreError")
_PUBLIC += ("build", "load_weights", "measure", "plan", "read")


class _Package(ModuleType):
    """`build` and `plan` are functions to users and rooms of the package to us: the functions win as attributes."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module `metablocks` has no attribute `{name}`")
    return getattr(importlib.import_module("metablocks.api"), name)


def __dir__() -> list[str]:
    return [*_PUBLIC, "__version__"]
