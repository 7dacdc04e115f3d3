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
    )
    from metablocks.api import (
        MetablocksError as MetablocksError,
    )
    from metablocks.api import (
        MissingError as MissingError,
    )
    from metablocks.api import (
        Network as Network,
    )
    from metablocks.api import (
        Plan as Plan,
    )
    from metablocks.api import (
        Spec as Spec,
    )
    from metablocks.api import (
        SpecError as SpecError,
    )
    from metablocks.api import (
        StoreError as StoreError,
    )
    from metablocks.api import (
        build as build,
    )
    from metablocks.api import (
        load_weights as load_weights,
    )
    from metablocks.api import (
        measure as measure,
    )
    from metablocks.api import (
        plan as plan,
    )
    from metablocks.api import (
        prepare as prepare,
    )
    from metablocks.api import (
        read as read,
    )
    from metablocks.api import (
        save as save,
    )

__version__ = "0.1.0"
_ERRORS = ("InputError", "MetablocksError", "MissingError", "SpecError", "StoreError")
_LIGHT = {"read": "metablocks.spec", "Spec": "metablocks.spec", **dict.fromkeys(_ERRORS, "metablocks.core.errors")}
_PUBLIC = (*_ERRORS, "Network", "Plan", "Spec", "build", "load_weights", "measure", "plan", "prepare", "read", "save")


class _Package(ModuleType):
    """`build` and `plan` are functions to users and rooms of the package to us: the functions win as attributes."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module `metablocks` has no attribute `{name}`")
    home = _LIGHT.get(name, "metablocks.api")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return [*_PUBLIC, "__version__"]
