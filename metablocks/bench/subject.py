"""What is measured: a spec, a peer's network or a function of a file, frozen as text before the first case runs."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metablocks.core.errors import Fault, InputError, MissingError, Place, Source
from metablocks.core.text import printable

if TYPE_CHECKING:
    from metablocks.plan import Plan
    from metablocks.spec import Spec

PEERS = ("timm", "torchvision")
LARGEST_FILE = 1 << 20


@dataclass(frozen=True)
class Subject:
    """`given` is what the user called it; `text` what it is made of, as it was at the start: a later edit is not seen.

    `text` is the whole resolved spec as JSON, a peer's name of its network, or the source of a file. `image` is the
    height and width that a peer or a function is asked for; a spec has its own. `mixers` are folders of loose mixers,
    which a worker has to let in again.
    """

    kind: str
    name: str
    given: str
    text: str
    edits: tuple[str, ...] = ()
    mixers: tuple[str, ...] = ()
    image: tuple[int, int] | None = None

    @property
    def spec(self) -> dict[str, Any] | None:
        """The resolved spec, where the subject is one."""
        return json.loads(self.text) if self.kind == "spec" else None

    @property
    def digest(self) -> str:
        """Of a spec as `Spec.digest` has it, else of what it is made of and the image."""
        made = self.text if self.kind == "spec" else f"{self.given} {self.image} {self.text}"
        return hashlib.sha256(made.encode()).hexdigest()


def subject(
    source: str | Path | Spec,
    edits: Sequence[str] = (),
    folders: Sequence[str | Path] = (),
    image: tuple[int, int] | None = None,
) -> Subject:
    """The subject by `timm:NAME`, `torchvision:NAME`, `FILE.py:FUNCTION`, path, shipped name, YAML text or spec.

    `edits` and `folders` of mixers are for specs. A spec is read and planned, so that every fault is told before a run.
    Raises `InputError`, and `MissingError` where a peer is not installed.
    """
    if isinstance(source, str) and "\n" not in source:
        peer, _, name = source.partition(":")
        if peer in PEERS:
            return _peer(peer, name, image)
        file, _, function = source.rpartition(":")
        if file.endswith(".py"):
            return _file(Path(file), function, image)
        if source.endswith(".py"):
            raise InputError(Fault(f"`{printable(source)}` names no function", help="FILE.py:FUNCTION"))
    return _spec(source, edits, folders, image)


def _spec(
    source: str | Path | Spec, edits: Sequence[str], folders: Sequence[str | Path], image: tuple[int, int] | None
) -> Subject:
    from metablocks.plan import plan
    from metablocks.spec import Spec, read

    _let_in(folders)
    sized = [*edits, f"image.size=[{image[0]}, {image[1]}]"] if image else edits
    checked = source if isinstance(source, Spec) else read(source, sized)
    plan(checked)
    given = checked.name if isinstance(source, Spec) or "\n" in str(source) else str(source)
    text = json.dumps(checked.resolved(), sort_keys=True)
    mixers = tuple(str(Path(one).resolve()) for one in folders)
    # an edited network is another one; its image is told beside it
    name = " ".join([checked.name, *edits])
    return Subject("spec", name, given, text, tuple(checked.edits), mixers, image)


def _peer(peer: str, name: str, image: tuple[int, int] | None) -> Subject:
    if not name:
        raise InputError(Fault(f"`{peer}:` names no network", help=f"{peer}:NAME"))
    if find_spec(peer) is None:
        raise MissingError(Fault(f"{peer} is not installed, so `{peer}:{printable(name)}` cannot be measured",
                                 help=f"pip install {peer}"))  # fmt: skip
    return Subject(peer, f"{peer}:{name}", f"{peer}:{name}", name, image=image)


def _file(path: Path, function: str, image: tuple[int, int] | None) -> Subject:
    shown = printable(str(path), limit=0)
    try:
        if not path.is_file():
            raise InputError(Fault(f"no file `{shown}`", help="FILE.py:FUNCTION, a function that returns a module"))
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(Fault(f"`{shown}` is larger than 1 MiB", help="no Python source is"))
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(Fault(f"`{shown}` is not UTF-8")) from None
    except OSError as error:
        raise InputError(Fault(f"`{shown}`: {error.strerror or error}")) from None
    _check_syntax(source, shown)
    if not function.isidentifier():
        raise InputError(Fault(f"no function can be called `{printable(function)}`", help="FILE.py:FUNCTION"))
    return Subject("file", f"{path.name}:{function}", f"{path.resolve()}:{function}", source, image=image)


def _check_syntax(source: str, shown: str) -> None:
    try:
        ast.parse(source)
    except SyntaxError as error:
        place = Place(Source(shown, source), error.lineno or 1, error.offset or 1)
        raise InputError(Fault("this is not Python", place, printable(error.msg))) from None
    except (ValueError, RecursionError, MemoryError):
        raise InputError(Fault(f"`{shown}` is not Python", help="a file of Python's source")) from None


def planned(subject: Subject) -> Plan:
    """The plan of a spec, in a worker."""
    from metablocks.plan import plan
    from metablocks.spec import read

    _let_in(subject.mixers)
    return plan(read(subject.text))


def _let_in(folders: Sequence[str | Path]) -> None:
    if folders:
        from metablocks.mixers import add_folder

        for folder in folders:
            add_folder(folder)
