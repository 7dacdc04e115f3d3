"""Every shipped network against its published figures. Counted on the meta device: nothing is allocated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from metablocks.core.errors import MetablocksError
from metablocks.core.shipped import shipped_names
from metablocks.costs import count
from metablocks.plan import plan
from metablocks.roster.conventions import FROZEN, UNITS, Which, agrees, sentence_for
from metablocks.roster.figures import Figure, figures
from metablocks.roster.recount import Counted
from metablocks.spec import read

DECODER = ("decoder", "predict")
NOUNS: dict[Which, str] = {"params": "parameters", "macs": "MACs"}


@dataclass(frozen=True)
class Outcome:
    """A network against its figures. `wrong` says what is off, `notes` why a paper's figure is another than ours."""

    name: str
    figure: Figure | None
    params: int | None
    frozen: int | None
    macs: int | None
    wrong: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def reproduce(names: Iterable[str] = ()) -> Iterator[Outcome]:
    """One outcome for each figure of the networks called `names`, or of all; networks without a figure come last."""
    names = list(names)
    known = figures(names)
    for figure in known:
        yield _outcome(figure)
    told = {figure.spec for figure in known}
    for name in names or shipped_names():
        if name in shipped_names() and name not in told:
            yield Outcome(name, None, None, None, None, ("no figures were published for it",))


def _outcome(figure: Figure) -> Outcome:
    if not figure.spec:
        return Outcome(figure.name, figure, None, None, None, ("no shipped spec is this network",))
    try:
        found = _counted(figure)
    except MetablocksError as error:
        return Outcome(figure.name, figure, None, None, None, (f"its spec is refused: {error.faults[0].message}",))
    total = found.total
    wrong = [
        f"{what} are {mine:,}, published {theirs:,}" if mine is not None else f"{what} cannot be counted"
        for what, mine, theirs in (("parameters", total.params, figure.params), ("MACs", total.macs, figure.macs))
        if theirs is not None and mine != theirs
    ]
    notes = [FROZEN] if total.frozen else []
    for which, printed in _unlike(figure, found):
        sentence = sentence_for(which, figure.name, printed, found)
        if sentence:
            notes.append(sentence)
        else:
            wrong.append(f"the paper's figure, {printed}, of its {NOUNS[which]} is not explained")
    return Outcome(figure.name, figure, total.params, total.frozen, total.macs, tuple(wrong), tuple(notes))


def _unlike(figure: Figure, found: Counted) -> Iterator[tuple[Which, str]]:
    """The figures of the paper that our numbers do not round to."""
    papers: tuple[tuple[Which, str, int | None], ...] = (
        ("params", figure.paper_params, found.total.params),
        ("macs", figure.paper_macs, found.total.macs),
    )
    for which, printed, mine in papers:
        if printed and mine is not None and not agrees(printed, (mine,), UNITS[which]):
            yield which, printed


def _counted(figure: Figure) -> Counted:
    spec = read(figure.spec, figure.edits)
    planned = plan(spec)
    costs = count(planned)
    half = figure.half == "decoder"
    rows = [row for row in costs.rows if not figure.half or row.startswith(DECODER) == half]
    return Counted(spec, planned, costs, tuple(rows))
