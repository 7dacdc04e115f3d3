"""What a checkpoint is: whose names it has, which shipped network it fits, and what does not fit."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path

import torch
from torch import Tensor, nn

from metablocks.core.errors import InputError, SpecError
from metablocks.core.saved import saved_spec
from metablocks.core.shipped import shipped_names
from metablocks.nets import assemble
from metablocks.plan import Plan, plan
from metablocks.roster.figures import figures
from metablocks.spec import Spec, read
from metablocks.weights import Checkpoint, Publisher, contradictions, load_file, locate, recognise
from metablocks.weights.match import Match, Matching, match
from metablocks.weights.publishers import OWN
from metablocks.weights.rules import Rules

HEAD = "head.fc.weight"
TABLE = "encoder.embedding.position.table"
_PATCH = re.compile(r"_patch\d+")  # which one publisher writes and another does not
CLOSE = 0.5  # share of the tensors that must be in place for a network to be called near


@dataclass(frozen=True)
class Fit:
    """A shipped network beside a checkpoint. Names are the checkpoint's, `missing` are ours."""

    spec: Spec
    plan: Plan
    placed: int
    left_over: tuple[str, ...]
    missing: tuple[str, ...]
    misshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    """Name, shape in the checkpoint, shape in the network."""
    edits: tuple[str, ...] = ()
    """What gives the network the checkpoint's size; what its publisher implies is in the spec as well."""
    resampled: int = 0
    """How many tables are of another window or resolution and would be resampled."""

    @property
    def wrong(self) -> int:
        return len(self.left_over) + len(self.missing) + len(self.misshaped)

    @property
    def headless(self) -> bool:
        """Whether only the last layer is missing."""
        return self.wrong == len(self.missing) > 0 and all(name.startswith("head.fc.") for name in self.missing)


@dataclass(frozen=True)
class Identity:
    """A checkpoint by what is in it. `fits` are those that fit best, or nearly, best first."""

    name: str
    publisher: str
    tensors: int
    values: int
    dtypes: dict[str, int]
    """Type of number to how many tensors are of it."""
    fits: tuple[Fit, ...]
    not_finite: dict[str, int]
    notes: tuple[str, ...]


def identify(path: str | os.PathLike[str]) -> Identity:
    """What the checkpoint in a file is. Raises `InputError` where it cannot be read or nobody's rules fit."""
    path = locate(path)
    checkpoint = load_file(path)
    publisher = recognise(checkpoint.tensors)
    tensors = checkpoint.tensors
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())
    inside = publisher.name == OWN.name and saved_spec(path)
    fits = [_fit(checkpoint.tensors, publisher, read(path))] if inside else _best(checkpoint, publisher)
    return Identity(
        checkpoint.name,
        publisher.name,
        len(tensors),
        sum(tensor.numel() for tensor in tensors.values()),
        dict(dtypes.most_common()),
        tuple(fits),
        {name: count for name, tensor in tensors.items() if (count := _not_finite(tensor))},
        checkpoint.notes,
    )


def _not_finite(tensor: Tensor) -> int:
    if not tensor.is_floating_point() or tensor.is_meta:
        return 0
    return int(tensor.numel() - torch.isfinite(tensor.float() if tensor.itemsize == 1 else tensor).sum())


def _best(checkpoint: Checkpoint, publisher: Publisher) -> list[Fit]:
    found = sorted(_candidates(checkpoint.tensors, publisher), key=_rank)
    if not found or found[0].placed < CLOSE * len(checkpoint.tensors):
        return []
    best = [fit for fit in found if _rank(fit) == _rank(found[0])]
    return sorted(best, key=lambda fit: (-_named_after(checkpoint.name, fit.spec.name), fit.spec.name))


def _named_after(file: str, spec: str) -> int:
    """How many letters of a file's name are a network's: tensors do not tell all networks apart, but names often do."""
    official = next((figure.official for figure in figures() if figure.name == spec), spec)
    plain = [_PATCH.sub("", re.sub(r"\W", "_", name.lower())) for name in (Path(file).name, spec, official)]
    return max(len(name) if name in plain[0] else 0 for name in plain[1:])


def _rank(fit: Fit) -> tuple[int, int, int]:
    return fit.wrong, fit.resampled, len(fit.edits)


def _candidates(tensors: Mapping[str, Tensor], publisher: Publisher) -> Iterator[Fit]:
    """The shipped networks of the publisher's kind and the checkpoint's depth, each at the checkpoint's size."""
    for name in shipped_names():
        spec = read(name)
        here = publisher.into(str(spec.resolved()["net"]))
        try:
            implied = contradictions(here, spec.resolved())
        except InputError:  # another kind of network
            continue
        try:
            spec = read(name, implied)
            fit = _shaped(tensors, here, spec)
        except SpecError:  # no network has these settings and sizes
            continue
        if fit is not None:
            yield fit


def _shaped(tensors: Mapping[str, Tensor], publisher: Publisher, spec: Spec) -> Fit | None:
    """The fit at the checkpoint's number of classes and resolution; None where the networks are of other depth."""
    planned = plan(spec)
    if not _as_deep(tensors, publisher, planned):
        return None
    first = _fit(tensors, publisher, spec, planned)
    edits = _resized(first)
    if not edits:
        return first
    return replace(_fit(tensors, publisher, read(spec.name, [*spec.edits, *edits])), edits=tuple(edits))


def _as_deep(tensors: Mapping[str, Tensor], publisher: Publisher, planned: Plan) -> bool:
    """Whether the checkpoint has the blocks of every stage, and none behind them. Cheap: no network is made."""
    rules = publisher.rules_for(planned)
    ours = [name for theirs in tensors for rule in rules if (name := rule.forward(theirs))]
    for index, stage in enumerate(planned.stages):
        last, next = (f"encoder.stages.{index}.blocks.{len(stage.blocks) - back}." for back in (1, 0))
        if any(name.startswith(next) for name in ours) or not any(name.startswith(last) for name in ours):
            return False
    return True


def _fit(tensors: Mapping[str, Tensor], publisher: Publisher, spec: Spec, planned: Plan | None = None) -> Fit:
    planned = planned or plan(spec)
    with torch.device("meta"):
        model = assemble(planned)
    found: Matching = match(tensors, publisher, planned, model.state_dict())
    wrong = [item for item in found.matches if item.tensor.shape != item.wanted.shape]
    misshaped = [(item.ours, tuple(item.tensor.shape), tuple(item.wanted.shape)) for item in wrong]
    placed = len(found.matches) - len(wrong) + found.recomputed
    # a change of layout keeps the number of values
    changed = [item for item in found.matches if item.theirs in tensors and _size(tensors, item) != item.tensor.numel()]
    resampled = len(changed) + _other_buffers(tensors, publisher.recomputed, publisher.rules_for(planned), model)
    return Fit(spec, planned, placed, found.left_over, found.missing, tuple(misshaped), resampled=resampled)


def _other_buffers(tensors: Mapping[str, Tensor], recomputed: Iterable[str], rules: Rules, model: nn.Module) -> int:
    """How many saved buffers are not those of a network: not read, but some tell windows as nothing else does."""
    own, other = dict(model.named_buffers()), 0
    for theirs, tensor in tensors.items():
        if theirs.rpartition(".")[2] in recomputed:
            for rule in rules:
                ours = own.get(rule.forward(theirs) or "")
                if ours is not None:
                    saved = rule.transform(tensor) if rule.transform else tensor
                    other += saved.shape != ours.shape or not torch.allclose(saved.to(ours), ours, atol=1e-2)
    return other


def _size(tensors: Mapping[str, Tensor], item: Match) -> int:
    return tensors[item.theirs].numel()


def _resized(fit: Fit) -> list[str]:
    """Edits that give a network the checkpoint's number of classes and its positions."""
    edits = []
    for name, theirs, ours in fit.misshaped:
        if name == HEAD and theirs[1:] == ours[1:]:
            edits.append(f"classes={theirs[0]}")
        elif name == TABLE and len(theirs) == 3 and theirs[2] == ours[2]:
            edits += _pixels(fit.plan, theirs[1] - ours[1])
    return edits


def _pixels(planned: Plan, more: int) -> list[str]:
    """The image of a position table with so many more rows, where that is a square."""
    grid, image = planned.encoder.embedding.grid, planned.encoder.stem.image
    rows = grid.height * grid.width + more
    side = isqrt(max(0, rows))
    if side == 0 or side * side != rows:
        return []
    height, width = side * image[0] // grid.height, side * image[1] // grid.width
    return [f"image.size={height}" if height == width else f"image.size=[{height}, {width}]"]
