"""S7, S8, S9, S12, S13: small networks in this process, held against each other in turns."""

from __future__ import annotations

import random
from itertools import permutations
from statistics import median

import torch

from metablocks.bench import models, work
from metablocks.bench.case import Case
from metablocks.bench.selfcheck.check import Check
from metablocks.bench.selfcheck.lab import Lab
from metablocks.bench.statistics import Comparison
from metablocks.bench.subject import subject
from metablocks.bench.work import Work, tensors
from metablocks.core import units
from metablocks.core.errors import InputError

DEPTHS = (1, 2, 4)
ALIKE = 1.05  # times as fast: more than what reading an output, or rotating inputs, may cost
ADVICE = "close other programs and run it again; if it fails on a quiet machine, report it"


def spec(depth: int, width: int = 128) -> str:
    """A small ViT, as text."""
    return f"""\
net: classifier
image: {{size: 64, channels: 3}}
classes: 10
stem: {{patch_embed: {{patch: 8}}}}
block: {{norm: layer_norm, mixer: {{attention: {{head_dim: 32}}}}, mlp: {{ratio: 4}}}}
stages:
  - {{dim: {width}, depth: {depth}}}
head: {{norm: layer_norm, pool: mean}}
"""


def network(lab: Lab, depth: int, batch: int = 8) -> Work:
    """A network in this process, built and fed as workers do."""
    case = Case(subject(spec(depth)), batch=batch, device=lab.device)
    made = models.load(case)
    return work.work(case, made.model, made.shapes, batch)


def zero_depth(lab: Lab) -> Check:  # noqa: ARG001
    """A network without blocks is no network."""
    try:
        subject(spec(depth=0))
    except InputError as error:
        told, passed = "refused: " + error.faults[0].message, True
    else:
        told, passed = "taken", False
    return Check(told, "a spec of depth 0 is refused", passed, "report it: a network of nothing is fast")


def unused_output(lab: Lab) -> Check:
    """An output that nobody reads has been computed all the same."""
    job = network(lab, depth=2)
    seen = lab.in_turns(lambda: float(tensors(job.call())[0].sum()), job.call)
    return _at_most(ALIKE, seen, "output unread against read: at most 5 % faster")


def same_input(lab: Lab) -> Check:
    """What one image after the other costs, against the same one again and again (MLPerf's TEST04)."""
    job = network(lab, depth=2)
    seen = lab.in_turns(job.call, lambda: job.run(job.inputs[0]))
    return _at_most(ALIKE, seen, "one input against several: at most 5 % faster")


def _at_most(most: float, seen: Comparison, rule: str) -> Check:
    """Fails only where all of the interval is above."""
    passed = (seen.ratio if seen.low is None else seen.low) <= most
    return Check(_told(seen), rule, passed, ADVICE, _values(seen))


def zeros(lab: Lab) -> Check:
    """How much faster zeros are: a property of the machine, and the reason why no input is zero."""
    side = 4096 if lab.cuda else 512
    dtype = torch.bfloat16 if lab.cuda else torch.float32
    normal = torch.randn(side, side, device=lab.device).to(dtype)
    nothing, result = torch.zeros_like(normal), torch.empty_like(normal)
    seen = lab.in_turns(
        lambda: torch.mm(normal, normal, out=result),
        lambda: torch.mm(nothing, nothing, out=result),
    )
    return Check(_told(seen), "zeros against normal numbers: noted, no rule", True, values=_values(seen))


def larger_batch(lab: Lab) -> Check:
    """Two batches in one call cannot take less time than one."""
    seen = lab.in_turns(network(lab, 2, batch=8).call, network(lab, 2, batch=16).call)
    doubled = Comparison(2 * seen.ratio, seen.low and 2 * seen.low, seen.high and 2 * seen.high)
    return _at_most(2, doubled, "batch 16 against 8: at most twice the images/s")


def deeper(lab: Lab) -> Check:
    """More blocks take more time."""
    seen = lab.in_turns(network(lab, 2).call, network(lab, 4).call)
    return _at_most(1, seen, "4 blocks against 2: not faster")


def order(lab: Lab) -> Check:
    """The same cells in every order."""
    jobs = {depth: network(lab, depth) for depth in DEPTHS}
    for job in jobs.values():
        lab.timer.warm_up(job.call, 0.5)
    orders = list(permutations(DEPTHS))
    random.shuffle(orders)
    found: list[dict[int, float]] = []
    for one in orders:
        found.append({depth: median(lab.timer.turn(jobs[depth].call, 9, 1, 2)) for depth in one})
    wrong = sum(sorted(spent, key=lambda depth: spent[depth]) != list(DEPTHS) for spent in found)
    # of what was measured first, against the same measured last
    effects = [_position(found, depth) for depth in DEPTHS]
    worst = max(effects, key=abs)
    return Check(
        f"{len(orders) - wrong} of {len(orders)} orders; first against last {units.percent(worst)}",
        "1, 2 and 4 blocks rank alike in every order",
        wrong == 0,
        ADVICE,
        {"orders_ranked_otherwise": wrong, "position_effect": worst},
    )


def _position(found: list[dict[int, float]], depth: int) -> float:
    """How much longer a cell takes where it comes first than where it comes last, as a share."""
    first = median(spent[depth] for spent in found if next(iter(spent)) == depth)
    last = median(spent[depth] for spent in found if next(reversed(spent)) == depth)
    return first / last - 1


def _told(seen: Comparison) -> str:
    bounds = "" if seen.low is None or seen.high is None else f" ({units.ratio(seen.low)} to {units.ratio(seen.high)})"
    return f"{units.ratio(seen.ratio)}{bounds} times the speed"


def _values(seen: Comparison) -> dict[str, float]:
    found = {"ratio": seen.ratio, "ratio_low": seen.low, "ratio_high": seen.high}
    return {key: value for key, value in found.items() if value is not None}
