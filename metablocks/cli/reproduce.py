"""`reproduce`: the shipped networks beside what was published about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metablocks.cli.common import Json, following, print_json, print_table
from metablocks.core import units

if TYPE_CHECKING:
    from metablocks.roster import Outcome

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="shipped networks; default all")]
EQUAL, OFF = "=", "off"


def reproduce(names: Names = None, as_json: Json = False) -> None:
    """Hold every shipped network against published figures. Exit code 1 if anything is off."""
    # here, and not through the facade: this needs no nets on a device, no weights and no bench
    from metablocks.costs import CONVENTION
    from metablocks.roster import reproduce as outcomes
    from metablocks.roster.conventions import FVCORE

    found: list[Outcome] = []
    with following("counting") as tell:
        for outcome in outcomes(names or ()):
            found.append(outcome)
            tell(outcome.name)
    if as_json:
        print_json({"convention": CONVENTION, "networks": [_data(outcome) for outcome in found], "ok": _ok(found)})
    else:
        _print(found, f"{CONVENTION} ({FVCORE})")
    raise typer.Exit(0 if _ok(found) else 1)


def _ok(found: Sequence[Outcome]) -> bool:
    return not any(outcome.wrong for outcome in found)


def _print(found: Sequence[Outcome], convention: str) -> None:
    sentences = list(dict.fromkeys(note for outcome in found for note in outcome.notes))
    rows = [_row(outcome, sentences) for outcome in found]
    columns = ("network", "parameters", "", "printed, M", "MACs", "", "printed, G", "note")
    print_table(columns, rows, "lrlrrlrl")
    print(f"\n`{EQUAL}` is equal, to the integer, to what the publisher's code counts; beside it what is printed")
    print(convention)
    for number, sentence in enumerate(sentences, 1):
        print(f"[{number}] {sentence}")
    wrong = [outcome for outcome in found if outcome.wrong]
    for outcome in wrong:
        print(f"off: {outcome.name}: {'; '.join(outcome.wrong)}")
    print(f"{len(found) - len(wrong)} of {len(found)} are reproduced")


def _row(outcome: Outcome, sentences: Sequence[str]) -> tuple[str, ...]:
    figure = outcome.figure
    notes = " ".join(f"[{sentences.index(note) + 1}]" for note in outcome.notes)
    if figure is None:
        return (outcome.name, "", "", "", "", "", "", "off")
    return (
        outcome.name,
        units.count(outcome.params),
        _sign(outcome.params, figure.params),
        figure.paper_params,
        units.count(outcome.macs),
        _sign(outcome.macs, figure.macs),
        figure.paper_macs,
        f"off {notes}".strip() if outcome.wrong else notes,
    )


def _sign(mine: int | None, theirs: int | None) -> str:
    return "" if theirs is None else EQUAL if mine == theirs else OFF


def _data(outcome: Outcome) -> dict[str, Any]:
    own = {"name": outcome.name, "params": outcome.params, "frozen_params": outcome.frozen, "macs": outcome.macs}
    told = {"wrong": list(outcome.wrong), "notes": list(outcome.notes)}
    figure = outcome.figure
    if figure is None:
        return own | told
    made = {"spec": figure.spec or None, "set": list(figure.edits), "half": figure.half or None}
    published = {"params": figure.params, "macs": figure.macs}
    paper = {"params_M": figure.paper_params or None, "macs_G": figure.paper_macs or None}
    return own | made | {"published": published, "paper": paper, "source": figure.source} | told
