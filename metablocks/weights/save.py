"""A network into a file that builds by itself: safetensors, with the resolved spec in the metadata."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from metablocks.core.errors import Fault, InputError, StoreError
from metablocks.core.text import printable


def save(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: str | os.PathLike[str]) -> None:
    """Writes a safetensors file, whole or not at all. Raises `InputError` for a name, `StoreError` for a full disk."""
    check_target(path)
    target = Path(path)
    whole = _apart({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()})
    temporary = target.with_name(f".{target.name[:80]}.{os.getpid()}")
    try:
        save_file(whole, temporary, {"format": "pt", **metadata})
        os.replace(temporary, target)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"cannot write `{printable(str(path), 200)}`: {printable(str(error), 200)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share memory, as tied weights do, each with its own: the format knows no other."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found


def check_target(path: str | os.PathLike[str]) -> None:
    """Raises as `save` does, before any work is done, where a file cannot be written."""
    target = Path(path)
    shown = printable(str(path), 200)
    if target.suffix != ".safetensors":
        raise InputError(Fault(f"`{shown}` is no name of a safetensors file", help="end it with .safetensors"))
    if target.is_dir():
        raise StoreError(f"cannot write `{shown}`: it is a folder")
    if not target.parent.is_dir():
        raise StoreError(f"cannot write `{shown}`: there is no folder `{printable(str(target.parent), 200)}`")
    if not os.access(target.parent, os.W_OK):
        raise StoreError(f"cannot write `{shown}`: its folder is read-only")
