"""The three formats. Each reader takes a path whose beginning has been looked at, and says what is wrong in words."""

from __future__ import annotations

import json
import math
import os
import struct
import zipfile
from collections import Counter
from typing import IO, Any

import numpy as np
import safetensors.torch
from numpy.lib import format as npy
from safetensors import SafetensorError

from metablocks.core.text import printable
from metablocks.weights.checkpoint import Checkpoint, checkpoint_of

AGAIN = "download it again"
HEADER_LIMIT = 100 << 20
UNPACKED = 1000  # an archive that unpacks to more than so many times its size is a trap


class UnreadableError(Exception):
    """What is wrong with a file, to be told after its name, and the way out."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.message, self.help = message, help


def read_safetensors(path: str) -> Checkpoint:
    """A safetensors file; its header is checked for what the library lets pass."""
    metadata = _safetensors_header(path)
    try:
        tensors = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise UnreadableError(f"is no sound safetensors file: {printable(str(error), 200)}", AGAIN) from error
    found = checkpoint_of(tensors, shown(path))
    return Checkpoint(found.name, found.tensors, metadata, found.notes)


def _safetensors_header(path: str) -> dict[str, str]:
    """The metadata. Letters as in the format: 8 bytes with the length of the header, the header in JSON, the values."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise UnreadableError(f"is incomplete: it ends after {size} bytes", AGAIN)
        length = struct.unpack("<Q", start)[0]
        if length > HEADER_LIMIT:
            raise UnreadableError(f"is no sound safetensors file: its header would be of {length:,} bytes", AGAIN)
        if 8 + length > size:
            raise UnreadableError(f"is incomplete: its header ends at byte {8 + length:,}, and it has {size:,}", AGAIN)
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_once)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableError("is no sound safetensors file: its header cannot be read", AGAIN) from error
    if expected > size:
        raise UnreadableError(f"is incomplete: expected {expected:,} bytes, it has {size:,}", AGAIN)
    metadata = header.get("__metadata__")
    return {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise UnreadableError(f"names a tensor twice: `{printable(twice[0])}`", "save it again")
    return dict(pairs)


def read_npz(path: str) -> Checkpoint:
    """A NumPy archive of plain arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_archive(archive, os.path.getsize(path))
        with np.load(path, allow_pickle=False) as arrays:
            found = dict(arrays)
    except (zipfile.BadZipFile, EOFError, MemoryError, NotImplementedError) as error:
        raise UnreadableError(f"is no sound NumPy archive: {printable(str(error), 200)}", AGAIN) from error
    except ValueError as error:
        raise UnreadableError(f"cannot be read as arrays: {printable(str(error), 200)}", "save plain arrays") from error
    return checkpoint_of(found, shown(path))


def _check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Refuses what would allocate or run before it is refused by NumPy."""
    members = archive.infolist()
    twice = [name for name, count in Counter(member.filename for member in members).items() if count > 1]
    if twice:
        raise UnreadableError(f"names an array twice: `{printable(twice[0])}`", "save it again")
    if sum(member.file_size for member in members) > UNPACKED * size:
        raise UnreadableError("would unpack to more than 1,000 times its size", "is this the publisher's file?")
    for member in members:
        with archive.open(member) as file:
            shape, kind = _npy_header(file)
        name = printable(member.filename)
        if kind.hasobject:
            raise UnreadableError(f"contains code: `{name}` is an array of Python objects", "save plain arrays")
        if math.prod(shape) * kind.itemsize > member.file_size:
            raise UnreadableError(f"is incomplete: `{name}` of shape {shape} has {member.file_size:,} bytes", AGAIN)


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, kind = read(file)
    return shape, kind


def shown(path: str) -> str:
    """A path as it stands in messages."""
    return f"`{printable(path, limit=200)}`"
