"""The plan of each net: what stands around its stages."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from itertools import accumulate, repeat

from metablocks.core.grid import Grid
from metablocks.plan.nouns import (
    DecoderPlan,
    EncoderPlan,
    HeadPlan,
    LinearPlan,
    MaskPlan,
    NormPlan,
    Plan,
    StemPlan,
)
from metablocks.plan.planner import Planner, Unplanned, ramp
from metablocks.spec import Spec
from metablocks.spec.grammar import Classifier, ImageStack, MaskedAutoencoder, Net
from metablocks.spec.tree import Path


def plan(spec: Spec) -> Plan:
    """The plan of a spec. Raises `SpecError` with every shape fault, before anything is allocated."""
    planner = Planner(spec)
    made = None
    with contextlib.suppress(Unplanned):
        if isinstance(spec.net, Classifier):
            made = _classifier(planner, spec.net)
        elif isinstance(spec.net, MaskedAutoencoder):
            made = _masked_autoencoder(planner, spec.net)
    planner.finish()
    assert made is not None
    return made


def _classifier(planner: Planner, net: Classifier) -> Plan:
    stem, grid = planner.stem((), net, net.image)
    encoder = _encoder(planner, (), net, stem, replace(grid, prefix=_prefix(net)), net)
    last = encoder.stages[-1]
    head = _head(planner, net, last.grid, last.dim)
    return Plan(planner.spec.name, net.name, encoder, None, head, None, net.init)


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
        if "class" not in names:
            planner.fault(("head", "pool"), "the head reads a class token, and there is none", "prefix: [class]")
            return None
        place = list(accumulate((item.tokens for item in net.prefix), initial=0))[names.index("class")]
        tokens = place, place + 1
    for key, norm in (("norm", net.head.norm), ("pool_norm", net.head.pool_norm)):
        with planner.at(("head", key)):
            norm.fit(dim)
    return HeadPlan(net.head, grid, dim, net.classes, tokens)


def _masked_autoencoder(planner: Planner, net: MaskedAutoencoder) -> Plan:
    stem, grid = planner.stem(("encoder",), net.encoder, net.image)
    full = replace(grid, prefix=_prefix(net.encoder))
    entering = replace(full, kept=_visible(planner, net, grid.patches)) if net.mask.tokens == "drop" else full
    encoder = _encoder(planner, ("encoder",), net.encoder, stem, entering, net)
    last = encoder.stages[-1]
    norm = _norm(planner, ("encoder", "norm"), net.encoder.norm, last.grid, last.dim)
    out = replace(last.grid, kept=None)
    mask = _mask(planner, net, grid, out)
    width = net.decoder.stages[0].dim
    embedding = planner.embedding(("decoder",), (), net.decoder.position, out, width)
    stages = tuple(planner.stages(("decoder",), net.decoder, out, net.block, repeat(0.0)))
    if any(stage.downsample for stage in stages):
        planner.fault(("decoder", "stages"), "a decoder keeps its grid, and a stage downsamples", "leave it out")
    after = _norm(planner, ("decoder", "norm"), net.decoder.norm, out, stages[-1].dim)
    values = mask.patch[0] * mask.patch[1] * net.image.channels
    decoder = DecoderPlan(
        mask, LinearPlan((last.dim, width), last.grid), embedding, stages, after, LinearPlan((stages[-1].dim, values), out)
    )
    return Plan(planner.spec.name, net.name, encoder, norm, None, decoder, net.init)


def _norm(planner: Planner, path: Path, norm: object, grid: Grid, dim: int) -> NormPlan:
    made = NormPlan(norm, grid, dim)  # type: ignore[arg-type]
    with planner.at(path):
        made.norm.fit(dim)
    return made


def _visible(planner: Planner, net: MaskedAutoencoder, units: int) -> int:
    """How many of `units` stay visible: rounded down, as in the original."""
    kept = int(units * (1 - net.mask.ratio))
    if not 0 < kept < units:
        wrong = f"a ratio of {net.mask.ratio:g} of {units} patches leaves {kept} visible"
        planner.fault(("mask", "ratio"), wrong, "some must be visible and some masked")
        raise Unplanned
    return kept


def _mask(planner: Planner, net: MaskedAutoencoder, stem: Grid, out: Grid) -> MaskPlan:
    """The masked squares, in stem tokens, and the patch that each token of the decoder predicts."""
    height, width = net.image.size
    if height % out.height or width % out.width:
        wrong = f"a decoder on a {out.height} x {out.width} grid does not divide {height} x {width} px"
        planner.fault(("encoder", "stages"), wrong, "use a stem and downsampling that divide the image")
        raise Unplanned
    patch = height // out.height, width // out.width
    unit = (net.mask.unit, net.mask.unit) if net.mask.unit else patch
    wrong_unit = net.mask.tokens == "drop" and unit != patch
    if wrong_unit or height % unit[0] or width % unit[1] or unit[0] % patch[0] or unit[1] % patch[1]:
        sizes = f"{patch[0]} x {patch[1]} px"
        wrong = f"a mask unit of {net.mask.unit} px does not go with tokens of {sizes}"
        planner.fault(("mask", "unit"), wrong, f"with `tokens: drop` it is {sizes}, else a multiple that tiles the image")
        raise Unplanned
    units = height // unit[0], width // unit[1]
    side = stem.height // units[0], stem.width // units[1]
    kept = _visible(planner, net, units[0] * units[1])
    dim = (net.decoder if net.mask.tokens == "drop" else net.encoder).stages[0].dim
    return MaskPlan(net.mask.tokens, units, side, kept, patch, net.target.normalize, dim)


