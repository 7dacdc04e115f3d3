"""Files that `build --save` wrote: safetensors with the resolved spec in its metadata. Read here without torch."""

from __future__ import annotations

import json
import os
import stat
import struct

SPEC, PICTURES = "metablocks_spec", "metablocks_pictures"
"""Keys of the metadata: the resolved spec, and how pictures are prepared for it, both in JSON."""

HEADER_LIMIT = 100 << 20


def saved_spec(path: str | os.PathLike[str]) -> str | None:
    """The spec inside a safetensors file, as JSON; empty where it holds none, None where it is no such file."""
    metadata = saved_metadata(path)
    return None if metadata is None else metadata.get(SPEC, "")


def saved_metadata(path: str | os.PathLike[str]) -> dict[str, str] | None:
    """The metadata of a safetensors file; None where it is none, or a broken one: its reader then says how."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            start = file.read(9)
            if len(start) < 9 or start[8:] != b"{":
                return None
            length = struct.unpack("<Q", start[:8])[0]
            if length > HEADER_LIMIT:
                return None
            header = json.loads(b"{" + file.read(length - 1))
    except (OSError, ValueError, RecursionError):  # ValueError: NUL in the name, or not JSON
        return None
    metadata = header.get("__metadata__") or {}
    return {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}
