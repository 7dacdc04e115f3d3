"""Files to checkpoints: safetensors, PyTorch and NumPy, told apart by their content. No file can run code."""

from __future__ import annotations

import os
import stat
import zipfile

from metablocks.core.errors import Fault, InputError, StoreError
from metablocks.core.text import printable
from metablocks.weights.checkpoint import Checkpoint
from metablocks.weights.formats import UnreadableError, read_npz, read_safetensors
from metablocks.weights.locate import locate
from metablocks.weights.torch_file import read_torch

LFS = b"version https://git-lfs"
OTHERS = {
    b"\x93NUMPY": ("a single NumPy array", "give the `.npz` file with all of them"),
    b"\x1f\x8b": ("a gzip file", "unpack it first"),
    b"\xfd7zXZ": ("an xz file", "unpack it first"),
    b"\x89HDF": ("an HDF5 file, as Keras writes", "give a safetensors, PyTorch or NumPy file"),
    b"\x89PNG": ("a picture", "give a safetensors, PyTorch or NumPy file"),
    b"\xff\xd8\xff": ("a picture", "give a safetensors, PyTorch or NumPy file"),
    b"\x7fELF": ("a program", "give a safetensors, PyTorch or NumPy file"),
}


def load_file(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in a file, whatever its suffix, in a folder or on the hub.

    Raises `InputError`, `StoreError` where it cannot be read, `MissingError` where the hub cannot be reached.
    """
    name = locate(path)
    shown = printable(name, limit=200)
    try:
        return _read(name, _head(name))
    except UnreadableError as error:
        raise InputError(Fault(f"`{shown}` {error.message}", help=error.help)) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(Fault(f"there is no file `{shown}`", help="check the path of the weights")) from error
    except OSError as error:
        raise StoreError(f"cannot read `{shown}`: {error.strerror or error}") from error


def _head(name: str) -> bytes:
    if "\0" in name or not stat.S_ISREG(os.stat(name).st_mode):  # opening a pipe would wait for its writer
        raise UnreadableError("is not a regular file", "give a file with weights")
    with open(name, "rb") as file:
        return file.read(1024)


def _read(name: str, head: bytes) -> Checkpoint:
    if not head:
        raise UnreadableError("is empty: 0 bytes", "download it again")
    if _is_safetensors(head):
        return read_safetensors(name)
    if head.startswith(LFS):
        size = next((line.split()[-1] for line in head.decode("ascii", "replace").splitlines() if "size " in line), "?")
        raise UnreadableError(
            f"is a Git LFS pointer to a file of {size} bytes, not the file itself", "run `git lfs pull`"
        )
    for magic, (kind, help) in OTHERS.items():
        if head.startswith(magic):
            raise UnreadableError(f"is {kind}, not a checkpoint", help)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] == b"<":
        raise UnreadableError("is a web page, not a checkpoint", "download the raw file")
    if text[:1] in (b"{", b"["):
        raise UnreadableError("is JSON, not a checkpoint", "give the file that holds the tensors themselves")
    return read_npz(name) if _is_npz(name) else read_torch(name)


def _is_safetensors(head: bytes) -> bool:
    """A length of 8 bytes, then JSON. A text that happens to have a brace there would be a length of petabytes."""
    small = head[5:8] == bytes(3)
    return (head[8:9] == b"{" and (small or not head[:8].isascii())) or (len(head) <= 8 and small)


def _is_npz(name: str) -> bool:
    if not zipfile.is_zipfile(name):
        return False
    with zipfile.ZipFile(name) as archive:
        return bool(archive.namelist()) and all(member.endswith(".npy") for member in archive.namelist())
