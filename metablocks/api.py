"""The public functions: each ties the arrows of the road together."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from metablocks.build import Compile
from metablocks.build import build as build_plan
from metablocks.core.errors import InputError, MetablocksError, MissingError, SpecError, StoreError
from metablocks.costs import count
from metablocks.nets import Network
from metablocks.plan import Plan
from metablocks.plan import plan as plan_spec
from metablocks.spec import Edits, Spec, read

log = logging.getLogger("metablocks")


def plan(source: str | Path | Spec, set: Edits = ()) -> Plan:  # noqa: A002
    """The plan of a spec: every size known, `params` and `macs` counted on first use. Raises `SpecError`."""
    checked = source if isinstance(source, Spec) else read(source, set)
    return replace(plan_spec(checked), counter=count)


__all__ = [
    "Edits",
    "InputError",
    "MetablocksError",
    "MissingError",
    "Network",
    "Plan",
    "Spec",
    "SpecError",
    "StoreError",



    "plan",
    "read",
]
