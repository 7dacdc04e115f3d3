"""PyTorch's own format, a zip archive or a row of pickles. Only tensors and plain containers are taken."""

from __future__ import annotations

import os
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO

import torch

from metablocks.core.text import printable
from metablocks.weights.checkpoint import Checkpoint, checkpoint_of
from metablocks.weights.formats import AGAIN, UnreadableError, shown

UNKNOWN = "is no checkpoint: neither safetensors nor PyTorch nor NumPy"
FORMATS = "give the file as the publisher released it"
TRUSTED = (
    "where you trust its source, take the weights out of it once: "
    "python -c \"import torch; torch.save(torch.load('IN', weights_only=False)['model'], 'OUT')\""
)
SAVE = "take the publisher's safetensors file, or save `model.state_dict()` alone where the file was made"

# What torch.load(weights_only=True) takes, and what training scripts save beside their weights.
PLAIN = ("collections.OrderedDict", "torch._utils.", "torch._tensor.", "torch.storage.", "torch.Size", "torch.device")
KEEPSAKES = ("argparse.", "pathlib.", "yacs.", "numpy.", "omegaconf.", "easydict.", "addict.", "mmengine.config")
PICKLES = 5  # in a row in the old format: magic number, version, system, the dict, keys of the storages


def read_torch(path: str) -> Checkpoint:
    """A file of `torch.save`. Nothing in it is run, and there is no other way to load it."""
    zipped = zipfile.is_zipfile(path)
    with open(path, "rb") as file:
        magic = file.read(2)
    if magic == b"PK" and not zipped:
        raise _cut(path)
    if zipped and not _pickled(path):
        raise UnreadableError("is a zip archive without weights", "unpack it, and give the file inside")
    if not zipped and magic[:1] != b"\x80":
        raise _objects(path) or UnreadableError(UNKNOWN, FORMATS)
    state = _load(path, zipped)
    if not isinstance(state, Mapping):
        raise UnreadableError(f"holds a {type(state).__name__}, not a dict of tensors by name", SAVE)
    return checkpoint_of(state, shown(path))


def _load(path: str, zipped: bool) -> object:
    # by its name torch takes such a file for safetensors, whatever is in it
    mapped = zipped and not path.endswith(".safetensors")
    try:
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")
            return torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise _objects(path) or UnreadableError(UNKNOWN, FORMATS) from error
    except EOFError as error:
        raise _cut(path) from error
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        if "unexpected EOF" in reason:
            raise _cut(path) from error
        if "Invalid magic number" in reason:
            raise UnreadableError("is a Python pickle, but not of `torch.save`", FORMATS) from error
        raise UnreadableError(f"cannot be read by PyTorch: {printable(reason, 200)}", FORMATS) from error


def _cut(path: str) -> UnreadableError:
    return UnreadableError(f"is incomplete: it breaks off after {os.path.getsize(path):,} bytes", AGAIN)


def _objects(path: str) -> UnreadableError | None:
    """What is wrong with a file that holds more than tensors; None where it names nothing else."""
    names = list(_globals(path))
    told = ", ".join(printable(name) for name in names[:5])
    if not names:
        return None
    if all(name.startswith(KEEPSAKES) for name in names):
        return UnreadableError(f"holds Python objects beside its weights: {told}; nothing was loaded", TRUSTED)
    return UnreadableError(f"contains code: {told}; nothing of it was run", SAVE)


def _pickled(path: str) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]


def _globals(path: str) -> Iterator[str]:
    """The names of what the pickles in a file would import, without importing it."""
    found: dict[str, None] = {}
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive, archive.open(_pickled(path)[0]) as file:
            _scan(file, found)
    else:
        with open(path, "rb") as file:
            for _ in range(PICKLES):
                if not _scan(file, found):
                    break
    for name in found:
        if not (name.startswith(PLAIN) or (name.startswith("torch.") and name.endswith("Storage"))):
            yield name


def _scan(file: IO[bytes], found: dict[str, None]) -> bool:
    """Adds the names in one pickle; whether it was read to its end."""
    texts: list[str] = []
    try:
        for code, argument, _ in pickletools.genops(file):
            if code.name in ("GLOBAL", "INST"):
                found[str(argument).replace(" ", ".")] = None
            elif code.name == "STACK_GLOBAL":
                found[".".join(texts[-2:])] = None
            elif isinstance(argument, str):
                texts.append(argument)
    except (ValueError, EOFError, UnicodeDecodeError, OverflowError, MemoryError):
        return False
    return True
