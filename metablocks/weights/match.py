"""Which tensor of a checkpoint fills which of ours, by the publisher's rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from metablocks.plan import Plan
from metablocks.weights.rules import Publisher
from metablocks.weights.tables import extent


@dataclass(frozen=True)
class Match:
    """A tensor of the checkpoint, transformed to our layout, and the one of ours that it fills."""

    theirs: str
    ours: str
    tensor: Tensor
    wanted: Tensor
    resampled: bool = False


@dataclass(frozen=True)
class Matching:
    """The matches in our order, the names that are left on either side, and how many buffers were skipped."""

    matches: tuple[Match, ...]
    left_over: tuple[str, ...]
    missing: tuple[str, ...]
    recomputed: int


def match(tensors: Mapping[str, Tensor], publisher: Publisher, plan: Plan, wanted: Mapping[str, Tensor]) -> Matching:
    """The first rule that gives the name of one of ours places a tensor. Shapes are not compared here."""
    rules = publisher.rules_for(plan)
    matches: dict[str, Match] = {}
    left_over, recomputed = [], 0
    for theirs, tensor in tensors.items():
        if theirs.rpartition(".")[2] in publisher.recomputed:
            recomputed += 1
            continue
        targets = ((rule, rule.forward(theirs)) for rule in rules)
        rule, ours = next(((rule, name) for rule, name in targets if name in wanted), (None, None))
        if rule is None or ours is None or ours in matches:
            left_over.append(theirs)
            continue
        shaped = rule.transform(tensor) if rule.transform else tensor
        numbers = shaped.is_floating_point() and not shaped.is_meta
        size = extent(plan, ours) if rule.resample and numbers else None
        made = rule.resample(shaped, size) if rule.resample and size else shaped
        matches[ours] = Match(theirs, ours, made, wanted[ours], made is not shaped)
    found = tuple(matches[name] for name in wanted if name in matches)
    missing = tuple(name for name in wanted if name not in matches)
    return Matching(found, tuple(left_over), missing, recomputed)
