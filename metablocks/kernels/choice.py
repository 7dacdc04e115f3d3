"""Which path a network takes where both can: our fused kernels, or what torch has."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache, wraps
from importlib.util import find_spec
from typing import Concatenate, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

log = logging.getLogger("metablocks")

P = ParamSpec("P")
T = TypeVar("T")
Kernels = Literal["fused", "reference"]

# A kernel that is wrong, raises or is slower than its twin does not run: see `window_trial`. No GPU has run them yet:
# they are tested in Triton's interpreter and compiled for sm_80 and sm_90; bench/kernels.py shows more on a GPU.
DEFAULT: Kernels = "fused"


def chosen(device: torch.device, asked: Kernels | None = None) -> Kernels:
    """The path of a network on a device: the one that is asked for, else the default, which is fused on CUDA alone."""
    if asked is not None:
        if asked == "fused" and why_not(device):
            log.warning("fused kernels: %s, so their readable twins run", why_not(device))
        return asked
    return DEFAULT if device.type == "cuda" and not why_not(device) else "reference"


def why_not(device: torch.device) -> str:
    """Why no kernel of ours runs on a device; nothing where they do."""
    if not _installed():
        return "Triton is not installed"
    if device.type == "cuda":
        old = torch.cuda.get_device_capability(device) < (8, 0)
        return "they need a GPU of compute capability 8.0 or newer" if old or torch.version.hip else ""
    return "" if device.type == "cpu" and interpreted() else f"there are none for the device `{device.type}`"


def on_its_device(launch: Callable[Concatenate[Tensor, P], T]) -> Callable[Concatenate[Tensor, P], T]:
    """Has kernels run on the device of the first tensor, which need not be the current one."""

    @wraps(launch)
    def launched(first: Tensor, /, *rest: P.args, **named: P.kwargs) -> T:
        with torch.cuda.device_of(first):
            return launch(first, *rest, **named)

    return launched


def interpreted() -> bool:
    """Whether Triton runs its kernels slowly on the CPU, as it does for tests of them."""
    return os.environ.get("TRITON_INTERPRET") == "1" and _installed()


@cache
def _installed() -> bool:
    return find_spec("triton") is not None
