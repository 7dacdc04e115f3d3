"""A file to a text that is fit to parse: what kind of file, how large, UTF-8, no characters that do not belong."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from metablocks.core.errors import Fault, InputError, Place, Source, SpecError, StoreError
from metablocks.core.text import printable

LIMIT = 1 << 20  # a spec is a page; a megabyte of it is something else

BINARY = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x1f\x8b": "a gzip file",
    b"PK\x03\x04": "a zip archive (PyTorch checkpoints and `.npz` files are such)",
    b"\x7fELF": "a program",
    b"\x93NUMPY": "a NumPy array",
    b"%PDF": "a PDF document",
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
}

# Lines that tell what has happened to a text. Searched in this order, before any parsing.
SIGNS = [
    (r"\Aversion https://git-lfs", "this is a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (r"\A\s*<(?i:!doctype|html|\?xml)", "this is a web page, not a spec", "download the raw file"),
    (r"^(<{7}|>{7}|={7}|\|{7})(?=\s|\Z)", "a merge conflict is not resolved", "keep one side, delete the marker lines"),
    (r"^%.*", "a spec takes no directives (`%`)", "delete the line"),
    (r"^[ \t]*\t[ \t]*(?=[^\s#])", "a tab in the indentation", "indent with spaces"),
]

# All but what YAML can print, without the line ends that editors and parsers count differently and without U+FEFF.
ALLOWED = "\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff"
FORBIDDEN = re.compile(f"[^{ALLOWED}]|\r(?!\n)")


def read_source(path: str | os.PathLike[str]) -> Source:
    """The text of a spec file. Anything but a regular file of UTF-8 text up to 1 MiB is refused at once."""
    name = os.fspath(path)
    shown = printable(name, limit=200)
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):  # opening a pipe would wait for its writer
            kind = "a folder" if Path(name).is_dir() else "not a regular file"
            raise InputError(Fault(f"`{shown}` is {kind}", help="give the path of a YAML file"))
        with open(name, "rb") as file:
            data = file.read(LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: NUL in the name
        help = "check the path; `metablocks specs` lists the networks that come with the package"
        raise InputError(Fault(f"there is no file `{shown}`", help=help)) from error
    except OSError as error:
        raise StoreError(f"cannot read `{shown}`: {error.strerror}") from error
    return Source(name, _decode(name, data))


def _decode(name: str, data: bytes) -> str:
    nowhere = Place(Source(name, ""), 1, 1)
    for magic, kind in BINARY.items():
        if data.startswith(magic):
            raise SpecError(Fault(f"this is {kind}, not a spec", nowhere, help="give a YAML file"))
    if len(data) > LIMIT:
        raise SpecError(_too_large(nowhere))
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise SpecError(Fault("the file is UTF-16", nowhere, help="save it as UTF-8"))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        source = Source(name, data.decode(errors="replace"))
        place = place_at(source, len(data[: error.start].decode()))
        byte = data[error.start]
        hint = f"`{chr(byte)}` in Latin-1" if byte >= 0xA0 else ""
        message = f"the file is not UTF-8: byte 0x{byte:02x} at offset {error.start}"
        raise SpecError(Fault(message, place, hint, "save it as UTF-8")) from error


def _too_large(place: Place) -> Fault:
    return Fault("a spec larger than 1 MiB", place, help="a spec is a page of YAML; is this another file?")


def screen(source: Source) -> Source:
    """`source` without its byte order mark, or the fault that makes parsing it pointless."""
    if len(source.text) > LIMIT:
        raise SpecError(_too_large(Place(Source(source.name, "", source.flag), 1, 1)))
    source = Source(source.name, source.text.removeprefix("\ufeff"), source.flag)
    if found := FORBIDDEN.search(source.text):
        raise SpecError(_forbidden(source, found.start()))
    for pattern, message, help in SIGNS:
        if sign := re.search(pattern, source.text, re.MULTILINE):
            place = place_at(source, sign.start(), len(sign[0].rstrip()))
            raise SpecError(Fault(message, place, help=help))
    return source


def _forbidden(source: Source, offset: int) -> Fault:
    code = ord(source.text[offset])
    help = {
        0: "save it as UTF-8 text; this looks like UTF-16 or a binary file",
        0x0D: "save it with the line ends of Unix or Windows",
        0xFEFF: "delete this byte order mark; only one, at the beginning, is taken",
    }.get(code, "delete it")
    return Fault(f"a spec cannot hold the character U+{code:04X}", place_at(source, offset), help=help)


def place_at(source: Source, offset: int, width: int = 1) -> Place:
    """The place of the character at `offset`."""
    before = source.text[:offset]
    return Place(source, before.count("\n") + 1, offset - before.rfind("\n"), max(1, width))
