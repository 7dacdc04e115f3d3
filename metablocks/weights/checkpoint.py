"""What came out of a file, or in from Python: tensors by the publisher's names, taken out of their wrappers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metablocks.core.errors import Fault, InputError
from metablocks.core.text import printable
from metablocks.weights.publishers import PREFIXES, PUBLISHERS

# Keys under which training scripts keep the state dict, in timm's order: averaged weights before plain ones.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "module")


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by the names that the publisher gave them. `notes` tell how they were got at."""

    name: str
    """The file, or `state dict`."""
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What a safetensors file says besides; never acted upon here."""
    notes: tuple[str, ...] = ()


def checkpoint_of(state: Mapping[str, Any], name: str = "state dict") -> Checkpoint:
    """The checkpoint in a state dict, or in what a training script saved around one. Raises `InputError`."""
    inner, notes = _unwrapped(state)
    wrong = [
        key for key, value in inner.items() if not (isinstance(key, str) and isinstance(value, Tensor | np.ndarray))
    ]
    if not inner or wrong:
        raise InputError(_foreign(inner, wrong, name))
    tensors = {key: value if isinstance(value, Tensor) else _tensor(key, value, name) for key, value in inner.items()}
    while prefix := _shared_prefix(tensors):
        notes.append(f"every name in {name} began with `{prefix}`; it was taken off")
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return Checkpoint(name, tensors, notes=tuple(notes))


def _unwrapped(state: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], list[str]]:
    notes = []
    while found := [key for key in WRAPPERS if isinstance(state.get(key), Mapping) and state[key]]:
        others = f"; `{'`, `'.join(found[1:])}` is there too" if found[1:] else ""
        notes.append(f"the weights are those under `{found[0]}`{others}")
        state = state[found[0]]
    return state, notes


def _foreign(state: Mapping[Any, Any], wrong: list[Any], name: str) -> Fault:
    help = "a checkpoint is a dict of tensors by name, plain or under `model` or `state_dict`"
    if not state:
        return Fault(f"{name} holds no tensors", help=help)
    told = [f"`{printable(str(key), 40)}` is {_kind(state[key])}" for key in wrong[:10]]
    more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
    return Fault(f"{len(wrong)} of {len(state)} entries of {name} are no tensors: {', '.join(told)}{more}", help=help)


def _kind(value: object) -> str:
    article = "an" if type(value).__name__[0] in "aeiou" else "a"
    return f"{article} {type(value).__name__}"


def _tensor(key: str, array: np.ndarray[Any, Any], name: str) -> Tensor:
    try:
        return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
    except TypeError:
        wrong = f"`{printable(key)}` in {name} is an array of {array.dtype}, which is no number that torch knows"
        raise InputError(Fault(wrong, help="save it as float32")) from None


def _shared_prefix(tensors: Mapping[str, Tensor]) -> str | None:
    """The wrapper's prefix of every name, unless the names are known as they are."""
    if any(publisher.fits(tensors) for publisher in PUBLISHERS):
        return None
    return next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in tensors)), None)
