"""Spec to plan: tiling, grids, heads, the drop-path ramp. All shape faults are found here, before any tensor exists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from typing import Any

from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit, Misfit, MixerSettings
from metablocks.core.text import listed, printable
from metablocks.parts.block import Residual
from metablocks.parts.downsample import Downsample, NoDownsample
from metablocks.parts.norm import Norm
from metablocks.parts.position import NoPosition, Position, Prefix
from metablocks.plan.ledger import Ledger, Use, dotted
from metablocks.plan.nouns import BlockKind, BlockPlan, DownsamplePlan, EmbeddingPlan, MixerPlan, StagePlan, StemPlan
from metablocks.spec.grammar import Block, DropPath, Image, ImageStack, Stack, Stage
from metablocks.spec.tree import Path

MAX_PIXELS = 1 << 28
MAX_TOKENS = 1 << 20


class Planner:
    """Plans the parts of one net. Where one does not fit, its ledger says why and the plan goes on without it."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def stem(self, path: Path, stack: ImageStack, image: Image) -> tuple[StemPlan, Grid]:
        """The stem and the grid after it."""
        owner, dim = (*path, "stem"), stack.stages[0].dim
        for key, norm, width in stack.stem.norms(dim):
            self.norm((*owner, key), norm, width)
        plan = StemPlan(stack.stem, image.size, image.channels, dim)
        with self.ledger.using(Use(("image",), image)):
            _check_budget("an image", image.size, "pixels", MAX_PIXELS)
            with self.ledger.using(Use(owner, stack.stem)):
                grid = stack.stem.grid(image.size)
                _check_budget("a grid", (grid.height, grid.width), "tokens", MAX_TOKENS)
                return plan, grid
        self.ledger.lost = True
        return plan, Grid(1, 1)

    def norm(self, owner: Path, norm: Norm, dim: int, stage: Path = ()) -> None:
        """Complains of a norm that cannot be built at width `dim`."""
        with self.ledger.using(Use(owner, norm, stage)):
            norm.fit(dim)

    def embedding(
        self, path: Path, prefix: tuple[Prefix, ...], position: Position, grid: Grid, dim: int
    ) -> EmbeddingPlan:
        if len({item.name for item in prefix}) < len(prefix):
            self.ledger.tell((*path, "prefix"), "a kind of prefix token is listed twice", "name each kind once")
        with self.ledger.using(Use((*path, "position"), position)):
            position.fit(dim)
        return EmbeddingPlan(prefix, position, grid, dim)

    def stages(self, path: Path, stack: Stack, grid: Grid, block: Block, rates: Iterator[float]) -> list[StagePlan]:
        """The stages of a stack from the grid that enters the first. `rates` gives each block its drop-path rate."""
        planned: list[StagePlan] = []
        dim = stack.stages[0].dim
        for index, stage in enumerate(stack.stages):
            here = (*path, "stages", index)
            step, grid = self.downsample(here, stack, grid, (dim, stage.dim))
            dim = stage.dim
            if not isinstance(stage.position, NoPosition) and (grid.prefix or not grid.whole):
                wrong = f"{dotted(here)}: the position of a stage needs every patch, and no prefix tokens"
                beside = f"write `position` beside `{dotted((*path, 'stages'))}` instead"
                self.ledger.tell((*here, "position"), wrong, beside, "position")
            embedding = self.embedding(here, (), stage.position, grid, dim)
            blocks = self.blocks(here, stage, block, grid, rates)
            planned.append(StagePlan(dim, grid, step, embedding, tuple(blocks)))
        return planned

    def downsample(
        self, here: Path, stack: Stack, grid: Grid, dims: tuple[int, int]
    ) -> tuple[DownsamplePlan | None, Grid]:
        """What stands before a stage, and the grid after it; `dims` are the widths before and after."""
        down, owner = _downsample(here, stack)
        if isinstance(down, NoDownsample):
            if dims[0] != dims[1]:
                wrong = f"{dotted(here)}: the width goes from {dims[0]} to {dims[1]} without a downsample"
                ways = "write `downsample: patch_merging`, or keep the width"
                ways = ways if isinstance(stack, ImageStack) else f"a decoder keeps its width: write `dim: {dims[0]}`"
                self.ledger.tell((*here, "dim"), wrong, ways, (owner, "width"))
            return None, grid
        if not isinstance(stack, ImageStack):
            wrong = f"{dotted(here)}: a decoder keeps its grid, and `{down.name}` changes it"
            self.ledger.tell(owner, wrong, "leave out `downsample`")
            return None, grid
        for key, norm, width in down.norms(dims):
            self.norm((*owner, key), norm, width, here)
        self.admit(owner, down, grid)
        with self.ledger.using(Use(owner, down, here, grid)):
            return DownsamplePlan(down, grid, dims), down.grid(grid)
        self.ledger.lost = True
        return None, replace(grid, prefix=0, kept=None)

    def admit(self, owner: Path, settings: MixerSettings | Downsample, grid: Grid) -> None:
        """Complains where patches were dropped, or prefix tokens stand, that these settings cannot do with."""
        downsamples = isinstance(settings, Downsample)
        other = "leave out `downsample`" if downsamples else "use `attention`"
        if settings.whole_grid and not grid.whole:
            seen = f"this encoder sees {grid.kept} of {grid.height * grid.width} tokens"
            alone = " and no `prefix`" if grid.prefix and not settings.takes_prefix else ""
            help = f"{seen}; {other}, or `mask: {{tokens: replace}}`{alone}"
            self.ledger.tell(owner, f"{settings.label} needs every token of its grid", help, "dropped")
        elif grid.prefix and not settings.takes_prefix:
            count = f"{grid.prefix} prefix token{'s' * (grid.prefix > 1)}"
            help = f"{count} would stand before its {grid.height} x {grid.width} grid; leave out `prefix`"
            help += " or `downsample`" if downsamples else ", or use `attention`"
            self.ledger.tell(owner, f"{settings.label} has no place for prefix tokens", help, "prefix")

    def blocks(self, here: Path, stage: Stage, block: Block, grid: Grid, rates: Iterator[float]) -> Iterator[BlockPlan]:
        """The blocks of a stage; the list of mixers is tiled over the depth."""
        owner = {
            key: (*(here if key in stage.model_fields_set else ("block",)), key) for key in ("norm", "mixer", "mlp")
        }
        drops = [next(rates) for _ in range(stage.depth)]
        norm, mixers, mlp = (stage.part(key, block) for key in owner)
        for key, path in owner.items():
            if path == ("block", key) and key not in block.model_fields_set:
                wrong = f"{dotted(here)}: no `{key}`, neither here nor in `block`"
                ways = "name a mixer" if key == "mixer" else f"write `{key}: none` where there is none"
                self.ledger.tell(here, wrong, ways, ("lacking", key))
        sizes = None
        if mlp:
            with self.ledger.using(Use(owner["mlp"], mlp, here)):
                sizes = mlp.resolve(stage.dim)
        if not norm or not mixers:
            return
        self.norm(owner["norm"], norm, stage.dim, here)
        order, layer, residual, dropout = (
            stage.part(key, block) for key in ("order", "layer_scale", "res_scale", "dropout")
        )
        branch = Residual(stage.dim, norm, order, layer, residual, dropout, any(drops))
        self.tile(here, stage.depth, len(mixers))
        uses = [Use((*owner["mixer"], index), settings, here, grid) for index, settings in enumerate(mixers)]
        planned = [self.mixer(use, stage.dim) for use in uses]
        kinds = [BlockKind(stage.dim, grid, mixer, branch, sizes) for mixer in planned if mixer]
        yield from (BlockPlan(kind, drop) for kind, drop in zip(cycle(kinds), drops, strict=False))

    def tile(self, here: Path, depth: int, count: int) -> None:
        """Complains of a list of mixers that does not fill the depth of its stage."""
        if depth % count:
            fitting = [str(size) for size in (depth - depth % count, depth - depth % count + count) if size]
            wrong = f"{dotted(here)}: {count} mixers do not tile a depth of {depth}"
            lists = [str(size) for size in range(1, depth + 1) if depth % size == 0]
            help = (
                f"use a depth of {listed(fitting, 'or')}, or list {listed(lists[-4:], 'or')} mixer{'s' * (depth > 1)}"
            )
            self.ledger.tell((*here, "depth"), wrong, help)

    def mixer(self, use: Use, dim: int) -> MixerPlan | None:
        settings, grid = use.settings, use.grid
        assert isinstance(settings, MixerSettings) and grid
        self.admit(use.owner, settings, grid)
        with self.ledger.using(use):
            ours = type(settings).__module__.startswith("metablocks.")
            return MixerPlan(settings.name, _sizes(settings, dim, grid, ours), ours)
        return None


def ramp(drop_path: DropPath, depth: int) -> Iterator[float]:
    """The drop-path rate of each block: linear from 0 to the rate, or the rate everywhere."""
    for index in range(depth):
        share = index / max(1, depth - 1) if drop_path.ramp == "linear" else 1.0
        yield drop_path.rate * share


def _downsample(here: Path, stack: Stack) -> tuple[Downsample, Path]:
    """What stands before the stage at `here`, and where it is written."""
    index = here[-1]
    assert isinstance(index, int)
    if own := stack.stages[index].downsample:
        return own, (*here, "downsample")
    common = stack.downsample if index and isinstance(stack, ImageStack) else NoDownsample()
    return common, (*here[:-2], "downsample")


def _check_budget(what: str, size: tuple[int, int], unit: str, most: int) -> None:
    count = size[0] * size[1]
    if count > most:
        wrong = f"{what} of {size[0]} x {size[1]} is {count:,} {unit}"
        raise GridMisfit(wrong, f"at most {most:,} {unit}", "size" if unit == "pixels" else None)


def _sizes(settings: MixerSettings, dim: int, grid: Grid, ours: bool) -> Any:
    """The sizes of a mixer. What goes wrong in another author's code is told as a fault of the spec that names it."""
    try:
        sizes = settings.resolve(dim, grid)
        hash(sizes)
    except Exception as error:
        if ours or isinstance(error, Misfit):
            raise
        wrong = f"mixer `{settings.name}` cannot be sized: {type(error).__name__}: {printable(str(error))}"
        raise Misfit(wrong, "its `resolve` returns a frozen dataclass of plain numbers, or raises Misfit") from error
    return sizes
