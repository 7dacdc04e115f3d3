"""`weights`: what a checkpoint is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metablocks.cli.common import Json, print_json, progress
from metablocks.core import units
from metablocks.core.text import listed, printable

if TYPE_CHECKING:
    from metablocks.roster.identify import Fit, Identity

SHOWN = 10
File = Annotated[str, typer.Argument(metavar="FILE", help="a file of weights, its folder, or hf-hub:org/name")]


def weights(file: File, as_json: Json = False) -> None:
    """Tell what a checkpoint is: publisher, network, resolution, the shipped spec that fits, what does not."""
    from metablocks.roster.identify import identify

    with progress("reading"):
        found = identify(file)
    if as_json:
        print_json(_data(found))
    else:
        _print(found, file)


def _print(found: Identity, file: str) -> None:
    best = found.fits[0] if found.fits else None
    kinds = listed(f"{count} of {kind}" for kind, count in found.dtypes.items()) if len(found.dtypes) > 1 else ""
    rows = [
        ("file", f"{found.name}: {found.tensors} tensors, {units.count(found.values)} values"),
        ("numbers", kinds or next(iter(found.dtypes))),
        ("publisher", found.publisher),
        ("network", listed([_named(fit) for fit in found.fits], "or") if best else "no shipped one fits"),
    ]
    if best:
        implied = [edit for edit in best.spec.edits if edit not in best.edits]
        rows += [("implied", _sets(implied))] if implied else []
        rows += [("image", _image(best)), ("classes", _classes(best)), ("fit", _told(best))]
        rows += [(name, _some(items)) for name, items in _differences(best) if items]
        if best.resampled:
            rows.append(("resampled", f"{best.resampled} tables, which are of another window or resolution"))
        if best.wrong == 0 or best.headless:
            rows += [("use", _command(fit, file)) for fit in found.fits]
        if found.fits[1:]:
            rows.append(("note", "the tensors do not tell these networks apart: take the one that was trained"))
    rows += [("note", note) for note in found.notes]
    rows += [("warning", f"{count} values of `{printable(name)}` are NaN or infinite") for name, count in _bad(found)]
    for name, text in rows:
        print(f"{name:10} {text}")


def _named(fit: Fit) -> str:
    edits = _sets(fit.edits)
    return f"{fit.spec.name} {edits}".strip()


def _sets(edits: Sequence[str]) -> str:
    return " ".join(f"--set '{edit}'" for edit in edits)


def _image(fit: Fit) -> str:
    height, width = fit.plan.encoder.stem.image
    return f"{height} x {width} px, {fit.plan.encoder.stem.channels} channels"


def _classes(fit: Fit) -> str:
    if fit.headless:
        return "none: the file has no classifier"
    return str(fit.plan.head.classes) if fit.plan.head else "none: a network without a head"


def _told(fit: Fit) -> str:
    if fit.wrong == 0:
        return f"all {fit.placed} tensors have their place"
    if fit.headless:
        return f"all {fit.placed} tensors have their place; the last layer is not there"
    return f"{fit.placed} tensors have their place"


def _differences(fit: Fit) -> list[tuple[str, list[str]]]:
    shapes = [f"`{printable(name)}` {theirs}, here {ours}" for name, theirs, ours in fit.misshaped]
    return [
        ("left over", [f"`{printable(name)}`" for name in fit.left_over]),
        ("missing", [f"`{name}`" for name in fit.missing]),
        ("shapes", shapes),
    ]


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{len(items)}: {', '.join(items[:SHOWN])}{more}"


def _bad(found: Identity) -> list[tuple[str, int]]:
    return list(found.not_finite.items())[:SHOWN]


def _command(fit: Fit, file: str) -> str:
    shown = printable(file, limit=0)
    if fit.headless:
        edits = f", set={list(fit.edits)}" if fit.edits else ""
        return f"mb.build({fit.spec.name!r}, weights={shown!r}, classes=...{edits}) starts a fresh classifier"
    if not fit.spec.shipped:
        return f"metablocks build {shown}"
    return f"metablocks build {_named(fit)} --weights {shown}"


def _data(found: Identity) -> dict[str, Any]:
    return {
        "file": found.name.strip("`"),
        "tensors": found.tensors,
        "values": found.values,
        "dtypes": found.dtypes,
        "publisher": found.publisher,
        "fits": [_fit(fit) for fit in found.fits],
        "not_finite": found.not_finite,
        "notes": list(found.notes),
    }


def _fit(fit: Fit) -> dict[str, Any]:
    return {
        "spec": fit.spec.name,
        "set": list(fit.edits),
        "implied": [edit for edit in fit.spec.edits if edit not in fit.edits],
        "image": list(fit.plan.encoder.stem.image),
        "classes": fit.plan.head.classes if fit.plan.head else None,
        "placed": fit.placed,
        "resampled": fit.resampled,
        "left_over": list(fit.left_over),
        "missing": list(fit.missing),
        "shapes": [{"name": name, "file": theirs, "network": ours} for name, theirs, ours in fit.misshaped],
    }
