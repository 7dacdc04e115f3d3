"""Which tensor of a checkpoint fills which of ours, by the publisher's rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metablocks.plan import Plan
from metablocks.weights.rules import Publisher, Rule
from metablocks.weights.tables import window


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
    rows: dict[str, list[tuple[Rule, str, Tensor]]] = {}
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
        if rule.piece is None:
            numbers = shaped.is_floating_point() and not shaped.is_meta
            size = window(plan, ours) if rule.resample and numbers else None
            made = rule.resample(shaped, size) if rule.resample and size else shaped
            matches[ours] = Match(theirs, ours, made, wanted[ours], made is not shaped)
            continue
        row = rows.setdefault(ours, [])
        if rule.piece in (other.piece for other, _, _ in row):
            left_over.append(theirs)
            continue
        row.append((rule, theirs, shaped))
        if len(row) == rule.piece[1]:
            matches[ours] = _joined(row, ours, wanted[ours])
    found = tuple(matches[name] for name in wanted if name in matches)
    missing = tuple(name for name in wanted if name not in matches)
    return Matching(found, tuple(left_over), missing, recomputed)


def _joined(row: list[tuple[Rule, str, Tensor]], ours: str, wanted: Tensor) -> Match:
    """The pieces of one of our tensors as one; where they do not go together the first, whose shape is then told."""
    ordered = sorted(row, key=lambda item: item[0].piece or (0, 0))
    pieces = [tensor for _, _, tensor in ordered]
    alike = len({(tensor.shape[1:], tensor.dtype, tensor.device) for tensor in pieces}) == 1 and pieces[0].ndim > 0
    return Match(_braced([name for _, name, _ in ordered]), ours, torch.cat(pieces) if alike else pieces[0], wanted)


def _braced(names: list[str]) -> str:
    """`a/{query,key,value}/kernel`: names that differ in one part, as one."""
    parts = [name.split("/") for name in names]
    columns = zip(*parts, strict=True) if len({len(part) for part in parts}) == 1 else [names]
    return "/".join(
        column[0] if len({*column}) == 1 else "{" + ",".join(dict.fromkeys(column)) + "}" for column in columns
    )
