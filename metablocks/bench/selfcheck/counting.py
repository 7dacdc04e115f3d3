"""S17: whether networks are counted right, by a formula on paper and by a second counter."""

from __future__ import annotations

import torch

from metablocks.bench import models
from metablocks.bench.case import Case
from metablocks.bench.selfcheck.check import Check
from metablocks.bench.selfcheck.lab import Lab
from metablocks.bench.selfcheck.networks import spec
from metablocks.bench.subject import subject
from metablocks.core import units
from metablocks.core.errors import MissingError
from metablocks.costs import count

ADVICE = "this depends on no machine: report it, with this printout"
PUBLISHED = {
    "mixer_s16": (18_528_264, 3_776_958_464),
    "poolformer_s12": (11_915_176, 1_812_267_008),
    "swin_t": (28_288_354, 4_490_566_656),
    "vit_s16": (22_050_664, 4_598_882_304),
}
"""Parameters and MACs of the authors' networks, counted on those."""


def formula(lab: Lab) -> Check:  # noqa: ARG001
    """A small ViT by pencil: N tokens, C width, K classes, D blocks, patches of 8 x 8 pixels, an MLP of ratio 4."""
    N, C, K, D = 64, 128, 10, 2
    block = 4 * N * C * C + 2 * N * N * C + 2 * N * C * 4 * C  # projections, scores and means, MLP
    wanted = N * C * 3 * 8 * 8 + D * block + C * K
    found = models.costs(models.load(Case(subject(spec(D, C))))).macs
    return Check(
        f"{units.count(found)} MACs; by pencil {units.count(wanted)}",
        "a small ViT, to the digit",
        found == wanted,
        ADVICE,
        {"macs": found or 0, "formula_macs": wanted},
    )


def second_counter(lab: Lab) -> Check:  # noqa: ARG001
    """The same network by fvcore, from real tensors."""
    from metablocks.costs.second import count_again

    made = models.load(Case(subject(spec(depth=2))))
    first = models.costs(made).macs
    rule = "the same, by another counter"
    try:
        second = count_again(made.model.eval(), [torch.randn(1, *shape.sizes) for shape in made.shapes]).macs
    except MissingError:
        return Check("not tried", rule, None, "pip install fvcore")
    return Check(f"{units.count(first)} MACs; by fvcore {units.count(second)}", rule, first == second, ADVICE)


def published(lab: Lab) -> Check:  # noqa: ARG001
    """Shipped networks against those of the authors."""
    from metablocks.plan import plan
    from metablocks.spec import read

    costs = {name: count(plan(read(name))) for name in PUBLISHED}
    wrong = [name for name, cost in costs.items() if (cost.params, cost.macs) != PUBLISHED[name]]
    return Check(
        f"{len(PUBLISHED) - len(wrong)} of {len(PUBLISHED)} networks" + (f", not {', '.join(wrong)}" if wrong else ""),
        "parameters and MACs of the authors' own",
        not wrong,
        ADVICE,
    )
