"""What does not fit between a checkpoint and a network, in words, with the way out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import isqrt

import torch

from metablocks.core.errors import Fault
from metablocks.core.text import nearest, printable
from metablocks.plan import Plan
from metablocks.weights.checkpoint import Checkpoint
from metablocks.weights.match import Match, Matching
from metablocks.weights.rules import Publisher, Rules

SHOWN = 10
BLOCK = re.compile(r"((?:encoder|decoder)\.stages\.\d+)\.blocks\.(\d+)\..*")


def names(
    checkpoint: Checkpoint, found: Matching, missing: Sequence[str], publisher: Publisher, plan: Plan
) -> Iterator[Fault]:
    """Names that are on one side only. Ours are told as the publisher would name them."""
    if not (found.left_over or missing):
        return
    rules = publisher.rules_for(plan)
    translated = [name for ours in missing for name in _theirs(ours, rules, checkpoint)]
    depth = _depth(checkpoint, publisher, plan)
    if found.left_over:
        total = len(checkpoint.tensors)
        count = len(found.left_over)
        has = "has" if count == 1 else "have"
        wrong = f"{count} of the {total} tensors of {checkpoint.name} {has} no place in this network"
        way = depth or _representation(checkpoint, found.left_over) or _near(found.left_over, translated)
        yield Fault(f"{wrong}: {_told(found.left_over)}", help=way)
    if missing:
        total = len(found.matches) + len(found.missing)
        are = "is" if len(missing) == 1 else "are"
        wrong = f"{len(missing)} of the {total} tensors of this network {are} not in {checkpoint.name}"
        yield Fault(f"{wrong}: {_told(translated)}", help=depth or _lacking([] if found.left_over else missing))


def shapes(checkpoint: Checkpoint, matches: Sequence[Match], plan: Plan) -> Iterator[Fault]:
    """Tensors of another shape than ours, as a table."""
    wrong = [item for item in matches if item.tensor.shape != item.wanted.shape]
    if not wrong:
        return
    shown = wrong[:SHOWN]
    rows = [(printable(item.theirs), _size(item.tensor), _size(item.wanted)) for item in shown]
    wide, middle = (max(len(row[column]) for row in rows) for column in (0, 1))
    table = [f"  {name:{wide}}  {theirs:{middle}} there, {ours} here" for name, theirs, ours in rows]
    if len(wrong) > SHOWN:
        table.append(f"  and {len(wrong) - SHOWN} more")
    has = "has" if len(wrong) == 1 else "have"
    message = f"{tensors(len(wrong))} {has} another shape in {checkpoint.name} than in this network:"
    yield Fault("\n".join([message, *table]), help=_way_out(wrong, plan))


def dtypes(checkpoint: Checkpoint, matches: Sequence[Match]) -> Iterator[Fault]:
    """Tensors that hold no real numbers, or nothing."""
    wrong = [item for item in matches if not item.tensor.is_floating_point() or item.tensor.is_meta]
    if wrong:
        kinds = sorted({"no values" if item.tensor.is_meta else dtype(item.tensor.dtype) for item in wrong})
        hold = f"of {checkpoint.name} hold{'s' if len(wrong) == 1 else ''} {', '.join(kinds)}"
        told = f"{tensors(len(wrong))} {hold} instead of floating-point numbers"
        yield Fault(
            f"{told}: {_told([item.theirs for item in wrong])}", help="undo the quantisation, or save the values"
        )


def not_finite(checkpoint: Checkpoint, matches: Sequence[Match]) -> Iterator[str]:
    """One warning for each tensor with NaN or infinite values."""
    for item in matches:
        count = int((~torch.isfinite(item.tensor.to(item.wanted.dtype))).sum())
        yield f"{count} of {item.tensor.numel()} values of `{item.theirs}` in {checkpoint.name} are NaN or infinite"


def tensors(count: int) -> str:
    """`1 tensor`, `2 tensors`."""
    return f"{count} tensor{'' if count == 1 else 's'}"


def dtype(value: torch.dtype) -> str:
    """float16, without the name of the library."""
    return str(value).removeprefix("torch.")


def _told(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(f"`{printable(name)}`" for name in items[:SHOWN]) + more


def _theirs(ours: str, rules: Rules, checkpoint: Checkpoint) -> list[str]:
    """What a publisher calls one of our tensors; where several of theirs make it, those that are not there."""
    named = [(rule, name) for rule in rules if (name := rule.backward(ours))]
    if not named:
        return [ours]
    if named[0][0].piece is None:
        return [named[0][1]]
    return [name for _, name in named if name not in checkpoint.tensors] or [named[0][1]]


def _representation(checkpoint: Checkpoint, left_over: Sequence[str]) -> str:
    """The edit for a file with a layer between pooling and classifier; empty where it has none."""
    bias = checkpoint.tensors.get("pre_logits/bias")
    if bias is None or not all(name.startswith("pre_logits/") for name in left_over):
        return ""
    return f"the file has a representation layer: --set head.representation={bias.numel()}"


def _near(left_over: Sequence[str], missing: Sequence[str]) -> str:
    pairs = [(name, near) for name in left_over[:SHOWN] if (near := nearest(name, missing))]
    if pairs:
        return "; ".join(f"`{printable(name)}` looks like `{near}`, which is missing" for name, near in pairs[:3])
    return "is this the spec that the weights were trained with?"


def _lacking(missing: Sequence[str]) -> str:
    if "head.fc.weight" in missing and all(name.startswith("head.") for name in missing):
        return "the file has no classifier: give `classes` to `mb.build` for a fresh one"
    if missing and all(name.startswith(("decoder.", "mask_token")) for name in missing):
        return "the file has the encoder alone: take the one that was saved with its decoder"
    return "is this the spec that the weights were trained with?"


def _depth(checkpoint: Checkpoint, publisher: Publisher, plan: Plan) -> str:
    """The edits that give every stage the depth that it has in the file; empty where all are as deep."""
    there: dict[str, int] = {}
    for theirs in checkpoint.tensors:
        for rule in publisher.rules_for(plan):
            if found := BLOCK.fullmatch(rule.forward(theirs) or ""):
                there[found[1]] = max(there.get(found[1], 0), int(found[2]) + 1)
    stacks = {"encoder": plan.stages, "decoder": plan.decoder.stages if plan.decoder else ()}
    edits = []
    for part, stages in stacks.items():
        for index, stage in enumerate(stages):
            depth = there.get(f"{part}.stages.{index}", len(stage.blocks))
            path = f"stages.{index}.depth" if plan.decoder is None else f"{part}.stages.{index}.depth"
            edits += [f"--set {path}={depth}"] if depth != len(stage.blocks) else []
    return f"the stages are of other depth in the file: {' '.join(edits)}" if edits else ""


def _way_out(wrong: Sequence[Match], plan: Plan) -> str:
    ours = {item.ours for item in wrong}
    first = wrong[0]
    if ours <= {"head.fc.weight", "head.fc.bias"}:
        there, here = first.tensor.shape[0], first.wanted.shape[0]
        return f"`--set classes={there}` is the head of the file; `mb.build(..., classes={here})` starts a fresh one"
    if all(name.endswith("position.table") for name in ours):
        return _other_position(first, plan)
    if all(name.endswith("bias_table") for name in ours):
        return "tables are resampled from square windows alone, and for the same heads"
    if all(name.startswith("encoder.") and name.endswith(".op.matrix") for name in ours):
        return _other_matrix(first, plan)
    if all(".mixer.op.fc" in name for name in ours):
        return "layers along the tokens are made for one number of tokens: set `image.size` as in training"
    return "is this the spec that the weights were trained with?"


def _other_position(item: Match, plan: Plan) -> str:
    """What to set for a position table (1, rows, C) with other rows."""
    if item.tensor.ndim != 3 or item.tensor.shape[2] != item.wanted.shape[2]:
        return "is this the spec that the weights were trained with?"
    grid = plan.encoder.embedding.grid
    rows, patches = item.tensor.shape[1], grid.height * grid.width
    extra = item.wanted.shape[1] - patches
    path = "position" if plan.decoder is None else f"{item.ours.split('.')[0]}.position"
    if item.ours.endswith("coder.embedding.position.table"):
        if rows == patches and extra:
            return f"the file has no positions for prefix tokens: --set {path}.learned.prefix=false"
        if rows == patches + grid.prefix and not extra:
            return f"the file has positions for prefix tokens too: --set {path}.learned.prefix=true"
        side = isqrt(max(0, rows - extra))
        if side * side == rows - extra:
            pixels = [
                side * length // steps for length, steps in zip(plan.encoder.stem.image, _steps(plan), strict=True)
            ]
            size = pixels[0] if pixels[0] == pixels[1] else f"[{pixels[0]}, {pixels[1]}]"
            return f"these weights' positions are not resampled: --set image.size={size} fits the file"
    return f"positions are resampled from square grids alone; the file has {rows} of them"


def _other_matrix(item: Match, plan: Plan) -> str:
    """What to set for a random matrix (N, N) of another number of tokens."""
    told = "a random matrix is for one number of tokens, and is not resampled"
    place = BLOCK.fullmatch(item.ours)
    assert place is not None
    grid, side = plan.stages[int(place[1].rpartition(".")[2])].grid, isqrt(item.tensor.shape[0])
    image = plan.encoder.stem.image
    pixels = {side * image[0] // grid.height, side * image[1] // grid.width}
    if side * side != item.tensor.shape[0] or len(pixels) > 1:
        return told
    return f"{told}: --set image.size={pixels.pop()} fits the file"


def _steps(plan: Plan) -> tuple[int, int]:
    grid = plan.encoder.embedding.grid
    return grid.height, grid.width


def _size(tensor: torch.Tensor) -> str:
    return str(tuple(tensor.shape))
