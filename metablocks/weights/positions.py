"""Position tables that were trained at another resolution, brought to the grid of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isqrt

from metablocks.core.resample import Pair
from metablocks.plan import Plan
from metablocks.plan.nouns import EmbeddingPlan
from metablocks.weights.match import Match
from metablocks.weights.rules import Publisher

TABLE = ".position.table"


def resampled(matches: Sequence[Match], publisher: Publisher, plan: Plan) -> tuple[list[Match], list[str]]:
    """The matches with each table (1, rows, C) that is of another grid resampled, and what to say of it.

    A file does not tell its grid: it is taken for a square. What is none stays as it is, and is told as a misfit.
    """
    made, notes = [], []
    way = publisher.resampling(plan)
    for item in matches:
        table = item.tensor
        embedding = _embedding(item.ours, plan)
        old = _square(item, embedding) if embedding else None
        if embedding and old and way:
            new = embedding.grid.height, embedding.grid.width
            sizes = f"{old[0]} x {old[1]} to {new[0]} x {new[1]}"
            if item.tensor.shape != item.wanted.shape:
                notes.append(f"{item.theirs} resampled from {sizes}: {way}")
                table = way(table, old, new, _prefix(item, embedding))
            elif old != new and publisher.name != "metablocks":
                notes.append(f"{item.theirs} has as many rows as the grid, and stands as it is, not from {sizes}")
        made.append(replace(item, tensor=table))
    return made, notes


def _embedding(name: str, plan: Plan) -> EmbeddingPlan | None:
    """The plan of what holds a table, by our name of the table."""
    if not name.endswith(TABLE):
        return None
    places = {"encoder.embedding": plan.encoder.embedding}
    places |= {f"encoder.stages.{index}.embedding": stage.embedding for index, stage in enumerate(plan.stages)}
    if plan.decoder:
        places["decoder.embedding"] = plan.decoder.embedding
        for index, stage in enumerate(plan.decoder.stages):
            places[f"decoder.stages.{index}.embedding"] = stage.embedding
    return places.get(name.removesuffix(TABLE))


def _prefix(item: Match, embedding: EmbeddingPlan) -> int:
    return item.wanted.shape[1] - embedding.grid.height * embedding.grid.width


def _square(item: Match, embedding: EmbeddingPlan) -> Pair | None:
    """The grid of a table in a file, where its rows without those of prefix tokens are a square."""
    if item.tensor.ndim != 3 or item.tensor.shape[::2] != item.wanted.shape[::2]:
        return None
    rows = item.tensor.shape[1] - _prefix(item, embedding)
    side = isqrt(max(0, rows))
    return (side, side) if rows > 0 and side * side == rows and item.tensor.is_floating_point() else None
