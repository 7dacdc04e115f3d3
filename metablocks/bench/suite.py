"""Suites: which subjects a bench measures, and under which conditions. `metablocks.bench.cells` makes cases of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metablocks.bench.case import Case
from metablocks.bench.cells import cases, pairs
from metablocks.bench.conditions import Conditions, check_size
from metablocks.bench.subject import Subject, subject
from metablocks.core.errors import Fault, InputError, MetablocksError, MissingError, Place, Source
from metablocks.core.shipped import shipped_path, suite_names, suite_path
from metablocks.core.text import did_you_mean, printable, side
from metablocks.spec.edit import assignments_from
from metablocks.spec.source import read_source
from metablocks.spec.syntax import parse
from metablocks.spec.tree import Mapping, locate
from metablocks.spec.tree import Path as TreePath

if TYPE_CHECKING:
    from metablocks.bench.suite_grammar import Keys, Measured, Named, SuiteKeys

__all__ = ["Conditions", "Suite", "Wanted", "cases", "is_suite", "pairs", "read_suite", "subjects", "suite_names"]

# Told by the text and not by its tree, so that a suite with an error in it is still a suite, and gets that error told.
SUITE = re.compile(r"""^(?:\ufeff|---[ ]|\{[ ]*)*["']?subjects["']?[ ]*:""", re.MULTILINE)


@dataclass(frozen=True)
class Wanted:
    """A subject that is asked for: its name, its own edits, and where a suite asks for it."""

    source: str
    edits: tuple[str, ...] = ()
    place: Place | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Suite:
    """What a suite asks for on one device. Subjects of one group are compared with the first of it."""

    name: str
    groups: tuple[tuple[Wanted, ...], ...]
    conditions: Conditions

    @property
    def subjects(self) -> tuple[Wanted, ...]:
        return tuple(wanted for group in self.groups for wanted in group)


def is_suite(source: str | Path) -> bool:
    """Whether this is the name of a shipped suite, or a file with the key `subjects`. A shipped spec's name wins."""
    if shipped_path(str(source)) is not None:
        return False
    try:
        return suite_path(str(source)) is not None or SUITE.search(_source(source)[0].text) is not None
    except MetablocksError:
        return False


def read_suite(source: str | Path, device: str = Case.device) -> Suite:
    """The suite in a file, by a shipped name, or in YAML text, as it is for `device`.

    Paths of subjects are taken from the folder that the bench is started in, as on the command line.
    Raises `SpecError` with file, line, column and help; `InputError` where there is no such file or name.
    """
    text, name = _source(source)
    if not SUITE.search(text.text):
        help = "a suite begins with `subjects: [...]`"
        raise InputError(Fault(f"`{printable(name)}` is not a suite: it has no key `subjects`", help=help))
    root = parse(text)
    # after the text has parsed: reading brings in the parts, and with them torch
    from metablocks.bench.suite_grammar import SuiteKeys
    from metablocks.spec.reader import read_as

    keys = read_as(SuiteKeys, root)
    kind = device.partition(":")[0]
    conditions = _conditions(keys, kind, device)
    groups = tuple(_groups(keys, kind, root))
    check_size(sum(map(len, groups)), conditions)
    return Suite(name, groups, conditions)


def subjects(
    group: Sequence[Wanted], conditions: Conditions, edits: Sequence[str] = (), folders: Sequence[str | Path] = ()
) -> list[Subject]:
    """The subjects of a group at every image size that is asked for. `edits` of specs go over their own.

    All faults of all subjects are raised at once: `MissingError` where nothing is wrong but that something is missing.
    """
    check_size(len(group), conditions)
    found, errors = [], []
    for image in dict.fromkeys(conditions.images) or (None,):
        for wanted in group:
            try:
                made = subject(wanted.source, [*wanted.edits, *edits], folders, image)
                found.append(replace(made, image=image))
            except MetablocksError as error:
                own = _own_faults(wanted, edits, folders) if image else error.faults
                errors.append(
                    (error, [_placed(fault, wanted, None if fault in own else image) for fault in error.faults])
                )
    if errors:
        # what is wrong comes before what is missing, and says how the bench ends
        errors.sort(key=lambda told: isinstance(told[0], MissingError))
        raise type(errors[0][0])(*dict.fromkeys(fault for _, told in errors for fault in told))
    return found


def _own_faults(wanted: Wanted, edits: Sequence[str], folders: Sequence[str | Path]) -> tuple[Fault, ...]:
    """What is wrong with a subject whatever its image."""
    try:
        subject(wanted.source, [*wanted.edits, *edits], folders)
    except MetablocksError as error:
        return error.faults
    return ()


def _placed(fault: Fault, wanted: Wanted, image: tuple[int, int] | None) -> Fault:
    """The fault with the subject that it is about: by its image, or where the suite asks for it."""
    at = f"{printable(wanted.source)} at {side(image)} px: " if image else ""
    return replace(fault, message=at + fault.message, place=fault.place or wanted.place)


def _source(source: str | Path) -> tuple[Source, str]:
    """The text of a suite and its name."""
    text = str(source)
    if isinstance(source, str) and "\n" in text:
        return Source("<text>", text), "text"
    path = suite_path(text)
    if path is not None:
        return read_source(path), text
    path = Path(text)
    if not os.path.exists(path) and path.suffix == "" and "/" not in text:
        hint = did_you_mean(text, suite_names()) or f"the shipped ones are {', '.join(suite_names())}"
        raise InputError(Fault(f"no suite called `{printable(text)}`, and no file of that name", help=hint))
    return read_source(path), path.stem


def _holder(keys: SuiteKeys, kind: str, key: str) -> tuple[Keys, TreePath]:
    """The mapping that a key is taken from on a kind of device, and its path: a device replaces a key whole."""
    own: Keys | None = getattr(keys.on, kind, None)
    return (own, ("on", kind)) if own is not None and key in own.model_fields_set else (keys, ())


def _conditions(keys: SuiteKeys, kind: str, device: str) -> Conditions:
    def value(key: str) -> Any:
        return getattr(_holder(keys, kind, key)[0], key)

    return Conditions(
        value("mode"),
        value("batch"),
        value("image"),
        value("dtype"),
        value("compile"),
        device,
        value("channels_last"),
        value("checkpoint"),
        float(value("seconds")),
        value("processes"),
        float(value("limit")),
    )


def _groups(keys: SuiteKeys, kind: str, root: Mapping) -> Iterator[tuple[Wanted, ...]]:
    """The subjects that are compared with the first, and those that are compared with others of their own."""
    holder, path = _holder(keys, kind, "subjects")
    together: list[Wanted] = []
    apart: list[tuple[Wanted, ...]] = []
    for index, one in enumerate(holder.subjects):
        here = (*path, "subjects", index)
        others = [_wanted(other, root, (*here, "against", number)) for number, other in enumerate(one.against)]
        if others:
            apart.append((_wanted(one, root, here), *others))
        else:
            together.append(_wanted(one, root, here))
    if together:
        yield tuple(together)
    yield from apart


def _wanted(one: Measured | Named, root: Mapping, path: TreePath) -> Wanted:
    return Wanted(one.name, tuple(assignments_from(one.set)), locate(root, path, value=True))
