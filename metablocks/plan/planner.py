"""Spec to plan: tiling, grids, heads, the drop-path ramp. All shape faults are found here, before any tensor exists."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from metablocks.core.errors import Fault, SpecError
from metablocks.core.grid import Grid
from metablocks.core.mixer import Misfit
from metablocks.parts.block import Residual
from metablocks.parts.downsample import NoDownsample
from metablocks.parts.position import NoPosition, Position, Prefix
from metablocks.plan.nouns import (
    BlockKind,
    BlockPlan,
    DownsamplePlan,
    EmbeddingPlan,
    MixerPlan,
    StagePlan,
    StemPlan,
)
from metablocks.spec import Spec
from metablocks.spec.grammar import Block, DropPath, Image, ImageStack, Stack, Stage
from metablocks.spec.tree import Path

MAX_TOKENS = 1 << 20


class Unplanned(Exception):
    """Nothing further can be planned along this way; its faults are told."""


class Planner:
    """Plans the parts of one spec and gathers its faults."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.faults: list[Fault] = []
        self._seen: set[tuple[Any, str | None]] = set()

    def finish(self) -> None:
        if self.faults:
            raise SpecError(*self.faults)

    def fault(self, path: Path, message: str, help: str = "") -> None:
        self.faults.append(Fault(message, self.spec.at(path), help=help))

    @contextmanager
    def at(self, path: Path, about: str = "", once: Any = None) -> Iterator[None]:
        """Turns a `Misfit` inside into a fault at `path`. One that `once` has caused before is not told again."""
        try:
            yield
        except Misfit as misfit:
            cause = (once, misfit.key)
            if once is None or cause not in self._seen:
                self._seen.add(cause)
                self.fault(path, f"{about}{misfit.message}", misfit.help)

    def stem(self, path: Path, settings: ImageStack, image: Image) -> tuple[StemPlan, Grid]:
        """The stem and the grid after it."""
        grid = None
        with self.at((*path, "stem")):
            grid = settings.stem.grid(image.size)
            self.check_size(grid)
        if grid is None:
            raise Unplanned
        return StemPlan(settings.stem, image.size, image.channels, settings.stages[0].dim), grid

    def check_size(self, grid: Grid) -> None:
        if grid.tokens > MAX_TOKENS:
            raise Misfit(f"a grid of {grid} is {grid.tokens:,} tokens", f"at most {MAX_TOKENS:,}: use a smaller image")

    def embedding(
        self, path: Path, prefix: tuple[Prefix, ...], position: Position, grid: Grid, dim: int
    ) -> EmbeddingPlan:
        if len({item.name for item in prefix}) < len(prefix):
            self.fault((*path, "prefix"), "a kind of prefix token is listed twice", "name each kind once")
        if not isinstance(position, NoPosition):
            with self.at((*path, "position")):
                position.fit(dim)
        return EmbeddingPlan(prefix, position, grid, dim)

    def stages(self, path: Path, stack: Stack, grid: Grid, block: Block, rates: Iterator[float]) -> list[StagePlan]:
        """The stages of a stack from the grid that enters the first. `rates` gives each block its drop-path rate."""
        planned: list[StagePlan] = []
        dim = stack.stages[0].dim
        for index, stage in enumerate(stack.stages):
            here = (*path, "stages", index)
            between = stack.downsample if index and isinstance(stack, ImageStack) else NoDownsample()
            down = stage.downsample or between
            step = self.downsample(here, down, grid, (dim, stage.dim))
            grid, dim = (replace(down.grid(grid), prefix=0) if step else grid), stage.dim
            if grid.prefix and not isinstance(stage.position, NoPosition):
                self.fault((*here, "position"), "a position inside the stack has no rows for prefix tokens")
            embedding = self.embedding(here, (), stage.position, grid, dim)
            blocks = self.blocks(here, stage, block, grid, rates)
            planned.append(StagePlan(dim, grid, step, embedding, tuple(blocks)))
        return planned

    def downsample(self, here: Path, down: Any, grid: Grid, dims: tuple[int, int]) -> DownsamplePlan | None:
        about = f"{_dotted(here)}: "
        if isinstance(down, NoDownsample):
            if dims[0] != dims[1]:
                wrong = f"{about}the width goes from {dims[0]} to {dims[1]} without a downsample"
                self.fault((*here, "dim"), wrong, "give the stack a `downsample`, or keep the width")
            return None
        if grid.prefix or not grid.whole:
            wrong = f"{about}{down.name} needs the whole grid alone, and there are {grid} tokens"
            self.fault(here, wrong, "leave out `prefix`, and `mask: {tokens: replace}` instead of drop")
            raise Unplanned
        after = None
        with self.at(here, about):
            after = down.grid(grid)
            down.fit(dims[0])
        if after is None:
            raise Unplanned
        return DownsamplePlan(down, grid, dims)

    def blocks(
        self, here: Path, stage: Stage, block: Block, grid: Grid, rates: Iterator[float]
    ) -> Iterator[BlockPlan]:
        """The blocks of a stage; the list of mixers is tiled over the depth."""
        drops = [next(rates) for _ in range(stage.depth)]
        lacking = [key for key in ("norm", "mixer", "mlp") if not _given(key, stage, block)]
        for key in lacking:
            wrong = f"{_dotted(here)}: no `{key}`, neither here nor in `block`"
            self.fault(here, wrong, f"write `{key}: none` where there is none" if key != "mixer" else "name a mixer")
        if lacking:
            return
        mixers = stage.part("mixer", block)
        if stage.depth % len(mixers):
            wrong = f"{_dotted(here)}: {len(mixers)} mixers do not tile a depth of {stage.depth}"
            self.fault(here, wrong, f"use a depth that is a multiple of {len(mixers)}, or list {stage.depth} mixers")
            return
        with self.at(here, f"{_dotted(here)}: "):
            stage.part("norm", block).fit(stage.dim)
        residual = Residual(
            stage.dim,
            *(stage.part(key, block) for key in ("norm", "order", "layer_scale", "res_scale", "dropout")),
            drops_path=any(drops),
        )
        mlp = None
        with self.at(here, f"{_dotted(here)}: "):
            mlp = stage.part("mlp", block) and stage.part("mlp", block).resolve(stage.dim)
        kinds = [self.kind(here, settings, stage.dim, grid, (residual, mlp)) for settings in mixers]
        if None not in kinds:
            yield from (BlockPlan(kinds[i % len(kinds)], drop) for i, drop in enumerate(drops))

    def kind(self, here: Path, settings: Any, dim: int, grid: Grid, rest: tuple[Any, Any]) -> BlockKind | None:
        about = f"{_dotted(here)}: "
        if settings.whole_grid and not grid.whole:
            wrong = f"{about}mixer `{settings.name}` needs every token of its grid"
            seen = f"this encoder sees {grid.kept} of {grid.height * grid.width} tokens"
            self.fault(here, wrong, f"{seen}; use `attention`, or `mask: {{tokens: replace}}`")
            return None
        if grid.prefix and not settings.takes_prefix:
            wrong = f"{about}mixer `{settings.name}` has no place for prefix tokens"
            self.fault(here, wrong, "leave out `prefix`, or use `attention`")
            return None
        sizes = None
        with self.at(here, about, once=settings):
            sizes = settings.resolve(dim, grid)
        return sizes and BlockKind(dim, grid, MixerPlan(settings.name, sizes), *rest)


def ramp(drop_path: DropPath, depth: int) -> Iterator[float]:
    """The drop-path rate of each block: linear from 0 to the rate, or the rate everywhere."""
    for index in range(depth):
        share = index / max(1, depth - 1) if drop_path.ramp == "linear" else 1.0
        yield drop_path.rate * share


def _given(key: str, stage: Stage, block: Block) -> bool:
    return key in stage.model_fields_set or key in block.model_fields_set


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
