"""Counting by running each distinct part once on the meta device, with one image.

Nobody writes a formula, so no number can be silently zero: multiply-accumulates come from torch's `FlopCounterMode`;
an operation that it does not know and that is not free by convention makes the count unknown and is named.
"""

from __future__ import annotations

from metablocks.costs import store
from metablocks.costs.nouns import Cost, Costs
from metablocks.plan import Plan


def count(plan: Plan) -> Costs:
    """The costs of a plan; each distinct part is counted once and remembered, on disk too."""
    rows: dict[str, Cost] = {}
    parts = {part: Cost() for _, part in plan.parts()}
    known = store.load(parts)
    fresh = [part for part in parts if part not in known]
    if fresh:
        from metablocks.costs.run import count_part  # brings in the counter, and with it much of torch

        counted = {part: count_part(part) for part in fresh}
        store.save(counted)
        known |= counted
    for row, part in plan.parts():
        rows[row] = rows.get(row, Cost()) + known[part]
    return Costs(rows, known)
