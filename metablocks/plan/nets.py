"""The plan of each net: what stands around its stages."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace
from itertools import accumulate, repeat

from metablocks.core.errors import Fault, SpecError
from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit, near
from metablocks.core.text import side
from metablocks.parts.norm import Norm
from metablocks.plan.ledger import Complaint, Ledger, Use, spelled, stacks
from metablocks.plan.nouns import (
    DecoderPlan,
    EncoderPlan,
    HeadPlan,
    LinearPlan,
    MaskPlan,
    NormPlan,
    Plan,
    StemPlan,
    visible,
)
from metablocks.plan.planner import Planner, ramp
from metablocks.plan.remedies import Trials, help_for
from metablocks.spec import Spec
from metablocks.spec.grammar import Classifier, ImageStack, MaskedAutoencoder, Net
from metablocks.spec.tree import Path

MAX_BLOCKS = 1000


def plan(spec: Spec) -> Plan:
    """The plan of a spec. Raises `SpecError` with every shape fault, before anything is allocated."""
    for path, stack in stacks(spec.net):
        if (total := sum(stage.depth for stage in stack.stages)) > MAX_BLOCKS:
            wrong = f"the stages have {total:,} blocks in all, more than a network may have"
            raise SpecError(Fault(wrong, spec.at((*path, "stages")), help=f"at most {MAX_BLOCKS:,} blocks"))
    made, ledger = _draft(spec.net)
    if ledger.complaints:
        trials = Trials(spec.net, ledger.complaints, _causes)
        raise SpecError(*(_fault(spec, complaint, trials) for complaint in ledger.complaints))
    return replace(made, name=spec.name)


def _fault(spec: Spec, complaint: Complaint, trials: Trials) -> Fault:
    place = spec.at(spelled(spec.net, complaint.path))
    return Fault(complaint.message, place, help=help_for(complaint, trials))


def _causes(net: Net) -> set[Hashable]:
    return _draft(net)[1].causes()


def _draft(net: Net) -> tuple[Plan, Ledger]:
    """A plan, which holds where its ledger has no complaints."""
    planner = Planner()
    if isinstance(net, Classifier):
        return _classifier(planner, net), planner.ledger
    assert isinstance(net, MaskedAutoencoder)
    return _masked_autoencoder(planner, net), planner.ledger


def _classifier(planner: Planner, net: Classifier) -> Plan:
    stem, grid = planner.stem((), net, net.image)
    encoder = _encoder(planner, (), net, stem, replace(grid, prefix=_prefix(net)), net)
    last = encoder.stages[-1]
    head = _head(planner, net, last.grid, last.dim)
    return Plan("", net.name, encoder, None, head, None, net.init)


def _prefix(stack: ImageStack) -> int:
    return sum(item.tokens for item in stack.prefix)


def _encoder(planner: Planner, path: Path, stack: ImageStack, stem: StemPlan, grid: Grid, net: Net) -> EncoderPlan:
    """`grid` is the one that enters the first stage; positions are made for all of its patches."""
    embedding = planner.embedding(path, stack.prefix, stack.position, replace(grid, kept=None), stem.dim)
    rates = ramp(net.drop_path, sum(stage.depth for stage in stack.stages))
    return EncoderPlan(stem, embedding, tuple(planner.stages(path, stack, grid, net.block, rates)))


def _head(planner: Planner, net: Classifier, grid: Grid, dim: int) -> HeadPlan | None:
    if net.head is None or net.classes is None:
        return None
    tokens = grid.prefix, grid.tokens
    if net.head.pool == "class":
        names = [item.name for item in net.prefix]
        if "class" in names:
            place = list(accumulate((item.tokens for item in net.prefix), initial=0))[names.index("class")]
            tokens = place, place + 1
        else:
            wrong = "the head pools the class token, and there is none"
            planner.ledger.tell(("head", "pool"), wrong, "write `prefix: [class]`, or `pool: mean`")
    planner.norm(("head", "norm"), net.head.norm, dim)
    planner.norm(("head", "pool_norm"), net.head.pool_norm, dim)
    if net.head.mlp:
        with planner.ledger.using(Use(("head", "mlp"), net.head.mlp)):
            planner.norm(("head", "mlp", "norm"), net.head.mlp.norm, net.head.mlp.resolve(net.head.width(dim)).hidden)
    return HeadPlan(net.head, grid, dim, net.classes, tokens)


def _masked_autoencoder(planner: Planner, net: MaskedAutoencoder) -> Plan:
    stem, grid = planner.stem(("encoder",), net.encoder, net.image)
    entering = replace(grid, prefix=_prefix(net.encoder))
    if net.mask.tokens == "drop":
        entering = replace(entering, kept=_kept(planner, net, grid.patches))
    encoder = _encoder(planner, ("encoder",), net.encoder, stem, entering, net)
    last = encoder.stages[-1]
    norm = _norm(planner, ("encoder", "norm"), net.encoder.norm, last.grid, last.dim)
    out = replace(last.grid, kept=None)
    mask = _mask(planner, net, grid, out)
    first = net.decoder.stages[0].dim
    embedding = planner.embedding(("decoder",), (), net.decoder.position, out, first)
    stages = tuple(planner.stages(("decoder",), net.decoder, out, net.block, repeat(0.0)))
    width = stages[-1].dim
    after = _norm(planner, ("decoder", "norm"), net.decoder.norm, out, width)
    values = mask.patch[0] * mask.patch[1] * net.image.channels
    embed, predict = LinearPlan((last.dim, first), last.grid), LinearPlan((width, values), out)
    decoder = DecoderPlan(mask, embed, embedding, stages, after, predict)
    return Plan("", net.name, encoder, norm, None, decoder, net.init)


def _norm(planner: Planner, path: Path, norm: Norm, grid: Grid, dim: int) -> NormPlan:
    planner.norm(path, norm, dim)
    return NormPlan(norm, grid, dim)


def _kept(planner: Planner, net: MaskedAutoencoder, units: int) -> int:
    """How many of `units` stay visible."""
    try:
        return visible(units, net.mask.ratio)
    except GridMisfit as misfit:
        if planner.ledger.lost:
            return units
        least, most = math.ceil(100 / units), math.floor(100 - 100 / units)
        ways = (
            f"use a ratio from {least / 100:g} to {most / 100:g}"
            if units > 1
            else "use a larger image or a smaller patch"
        )
        planner.ledger.tell(("mask", "ratio"), misfit.message, ways, "ratio")
        return units


def _mask(planner: Planner, net: MaskedAutoencoder, stem: Grid, out: Grid) -> MaskPlan:
    """The masked squares, in stem tokens, and the patch that each token of the decoder predicts."""
    patch = net.image.size[0] // out.height, net.image.size[1] // out.width
    units, covers = (out.height, out.width), (1, 1)
    with planner.ledger.using(Use(("encoder", "stem"), net.encoder.stem, grid=out)):
        if (patch[0] * out.height, patch[1] * out.width) != net.image.size:
            raise GridMisfit(f"a {out.height} x {out.width} grid does not divide an image of {side(net.image.size)} px")
        with planner.ledger.using(Use(("mask",), net.mask, grid=out)):
            units = _units(net, patch)
            covers = stem.height // units[0], stem.width // units[1]
            if (covers[0] * units[0], covers[1] * units[1]) != (stem.height, stem.width):
                wrong = (
                    f"{units[0]} x {units[1]} masked squares do not tile the stem's {stem.height} x {stem.width} tokens"
                )
                raise GridMisfit(wrong, "a stem and downsampling without overlap at the border would fit")
    kept = _kept(planner, net, units[0] * units[1])
    dim = (net.decoder if net.mask.tokens == "drop" else net.encoder).stages[0].dim
    return MaskPlan(net.mask.tokens, net.mask.ratio, units, covers, kept, patch, net.target.normalize, dim)


def _units(net: MaskedAutoencoder, patch: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of masked squares; raises `Misfit`."""
    image, unit = net.image.size, net.mask.unit
    if unit is None:
        return image[0] // patch[0], image[1] // patch[1]
    if net.mask.tokens == "drop" and (unit, unit) != patch:
        wrong = f"a mask unit of {unit} px is not the token of {side(patch)} px that is dropped"
        raise GridMisfit(wrong, "leave out `unit`, or use `tokens: replace`", "unit")
    options = [(key, size) for key, size in near("unit", unit, *image) if size % patch[0] == size % patch[1] == 0]
    if unit % patch[0] or unit % patch[1]:
        raise GridMisfit(f"a mask unit of {unit} px is no multiple of a token of {side(patch)} px", "", "unit", options)
    if image[0] % unit or image[1] % unit:
        raise GridMisfit(f"a mask unit of {unit} px does not tile an image of {side(image)} px", "", "unit", options)
    return image[0] // unit, image[1] // unit
