"""A publisher's tensors to ours: every tensor on both sides is used exactly once, or named in an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metablocks.core.errors import InputError
from metablocks.core.text import listed
from metablocks.plan import Plan
from metablocks.weights import misfits
from metablocks.weights.checkpoint import Checkpoint
from metablocks.weights.match import Match, Matching, match
from metablocks.weights.positions import resampled
from metablocks.weights.rules import Publisher, fits_any
from metablocks.weights.settings import check_kind

HEAD = ("head.fc.weight", "head.fc.bias")
BEFORE_HEAD = ("head.pool_norm.", "head.representation.")


@dataclass(frozen=True)
class Converted:
    """Weights by our names, ready for `load_state_dict`. Notes and warnings are sentences for the log."""

    tensors: dict[str, Tensor]
    fresh: tuple[str, ...]
    """Our names that the checkpoint does not fill, as was asked: those of a head for other classes."""
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def convert(
    checkpoint: Checkpoint, publisher: Publisher, plan: Plan, wanted: Mapping[str, Tensor], fresh_head: bool = False
) -> Converted:
    """The tensors of a checkpoint by our names, in the shapes and dtypes of `wanted`.

    `wanted` is the network's own state dict, on any device. With `fresh_head` the last layer is left out where the
    checkpoint has it for other classes, or not at all. Raises `InputError` with everything that does not fit.
    """
    publisher = publisher.into(plan.net)
    decoder = plan.decoder.stages if plan.decoder else ()
    blocks = [block for stage in (*plan.stages, *decoder) for block in stage.blocks]
    check_kind(publisher, plan.net, {block.kind.mixer.name for block in blocks})
    found = match(checkpoint.tensors, publisher, plan, wanted)
    fresh = _fresh(found.matches, wanted) if fresh_head else ()
    headless = not any(item.ours in HEAD for item in found.matches)
    found, unused = _without(found, publisher.unused + (publisher.with_head if fresh or headless else ()))
    matches = [item for item in found.matches if item.ours not in fresh]
    matches, positions = resampled(matches, publisher, plan)
    missing = [name for name in found.missing if name not in fresh]
    faults = [
        *misfits.names(checkpoint, found, missing, publisher, plan),
        *misfits.shapes(checkpoint, matches, plan),
        *misfits.dtypes(checkpoint, matches),
    ]
    if faults:
        raise InputError(*faults)
    tensors = {item.ours: item.tensor.to(item.wanted.dtype) for item in matches}
    notes = [*checkpoint.notes, *_notes(checkpoint, publisher, matches, found.recomputed)]
    notes += positions
    if unused:
        some = ", ".join(unused[:3]) + (", ..." if unused[3:] else "")
        notes.append(f"{misfits.tensors(len(unused))} left out, for which this network has no use: {some}")
    if fresh:
        notes.append(f"{listed(fresh)} start fresh: a head for {wanted[HEAD[0]].shape[0]} classes")
    bad = [item for item in matches if not torch.isfinite(tensors[item.ours]).all()]
    return Converted(tensors, fresh, tuple(notes), tuple(misfits.not_finite(checkpoint, bad)))


def _fresh(matches: tuple[Match, ...], wanted: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names of the last layer, where the checkpoint does not fill it as it is.

    A file that has no classifier at all lacks what stands between pooling and the last layer, too.
    """
    head = tuple(name for name in HEAD if name in wanted)
    filled = {item.ours for item in matches if item.tensor.shape == item.wanted.shape}
    if filled.issuperset(head):
        return ()
    there = {item.ours for item in matches}
    before = () if there & {*head} else tuple(name for name in wanted if name.startswith(BEFORE_HEAD))
    return (*head, *(name for name in before if name not in there))


def _without(found: Matching, patterns: tuple[str, ...]) -> tuple[Matching, list[str]]:
    """The matching without the left-over names that fit a pattern, and these names."""
    unused = [name for name in found.left_over if fits_any(patterns, name)]
    left_over = tuple(name for name in found.left_over if name not in unused)
    return replace(found, left_over=left_over), unused


def _notes(checkpoint: Checkpoint, publisher: Publisher, matches: list[Match], recomputed: int) -> list[str]:
    notes = [f"{misfits.tensors(len(matches))} of {checkpoint.name} in place: {publisher.name}"]
    if recomputed:
        notes.append(f"{misfits.tensors(recomputed)} of {checkpoint.name} left out: buffers that follow from the sizes")
    if resampled := sum(item.resampled for item in matches):
        notes.append(f"{misfits.tensors(resampled)} resampled: tables of another window or another resolution")
    casts = Counter((item.tensor.dtype, item.wanted.dtype) for item in matches)
    for (theirs, ours), count in casts.items():
        if theirs != ours:
            notes.append(f"{misfits.tensors(count)} cast from {misfits.dtype(theirs)} to {misfits.dtype(ours)}")
    return notes
