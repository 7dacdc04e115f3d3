"""The language: YAML text to tree, tree to checked spec."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from metablocks.core.errors import Fault, InputError, Source
from metablocks.core.saved import saved_spec
from metablocks.core.shipped import shipped_names, shipped_path
from metablocks.core.text import did_you_mean, printable
from metablocks.spec.edit import assignments_from, edit
from metablocks.spec.source import read_source
from metablocks.spec.spec import Spec
from metablocks.spec.syntax import parse

Edits = Mapping[str, object] | Iterable[str]


def read(source: str | Path, set: Edits = ()) -> Spec:
    """The spec in a file, by a shipped name, or in YAML text. A file that `build --save` wrote holds its spec.

    `set` edits the tree before it is checked: `{"stages.2.mixer": "pooling"}` or `["stages.2.mixer=pooling"]`.
    Raises `SpecError` with file, line, column and help; `InputError` where there is no such file or name.
    """
    text, name, shipped = _source(source)
    assignments = edits(set)
    root = edit(parse(text), assignments)
    # after the text has parsed: reading brings in the parts, and with them torch
    from metablocks.spec.reader import read_net

    return Spec(name, read_net(root), root, shipped, tuple(assignments))


def edited(spec: Spec, set: Edits) -> Spec:
    """A spec with edits more. Raises `SpecError`."""
    from metablocks.spec.reader import read_net

    assignments = edits(set)
    root = edit(spec.root, assignments)
    return replace(spec, net=read_net(root), root=root, edits=(*spec.edits, *assignments))


def edits(set: Edits) -> list[str]:
    """Edits as the assignments that `--set` takes."""
    return assignments_from(set) if isinstance(set, Mapping) else list(set)


def _saved(name: str, text: str) -> Source:
    if not text:
        wrong = f"`{printable(name, 200)}` holds weights, but no spec"
        raise InputError(Fault(wrong, help="`metablocks weights FILE` names the spec that fits; give both"))
    return Source(name, text)


def _source(source: str | Path) -> tuple[Source, str, bool]:
    """The text, the network's name, and whether it is a shipped one."""
    text = str(source)
    if isinstance(source, str) and ("\n" in text or ": " in text):
        return Source("<text>", text), "text", False
    shipped = shipped_path(text)
    if shipped is not None:
        return read_source(shipped), text, True
    path = Path(text)
    if not os.path.exists(path) and path.suffix == "" and "/" not in text:
        hint = did_you_mean(text, shipped_names()) or "`metablocks specs` lists the shipped ones"
        raise InputError(Fault(f"no spec called `{printable(text)}`, and no file of that name", help=hint))
    saved = saved_spec(path)
    if saved is not None:
        return _saved(text, saved), path.stem, False
    return read_source(path), path.stem, False


__all__ = ["Edits", "Spec", "edited", "edits", "read"]
