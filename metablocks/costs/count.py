"""Counting by running each distinct part once on the meta device, with one image.

Nobody writes a formula, so no number can be silently zero: multiply-accumulates come from torch's `FlopCounterMode`;
an operation that it does not know and that is not free by convention makes the count unknown and is named.
"""

from __future__ import annotations

from collections import Counter

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


def further_image(plan: Plan) -> int | None:
    """Multiply-accumulates that one image more in a batch costs; None where an operation is unknown to the counter.

    Less than those of the first where something is computed once a batch: the bias network of Swin V2. Its paper, and
    all who count a large batch, give this number.
    """
    from metablocks.costs.run import count_part

    first = count(plan).parts
    more = 0
    for part, times in Counter(part for _, part in plan.parts()).items():
        one, two = first[part].macs, count_part(part, images=2).macs
        if one is None or two is None:
            return None
        more += times * (two - one)
    return more
