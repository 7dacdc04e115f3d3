"""What a subject of the bench moves, counted without a GPU and without running it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING, Any

from metablocks.bench.case import Case

if TYPE_CHECKING:
    from torch import Tensor, nn

    from metablocks.bench.traffic.count import Moved

BATCH = 251
"""Images: a prime near the 256 of usual benches. No weight of a shipped network has a size that is a multiple of it."""


@dataclass(frozen=True)
class Traffic:
    """What a case moves for one image; `moved` is None where it `failed`, and `failed` says why."""

    case: Case
    blocks: int | None
    floor: int | None
    """Elements an image that a forward pass has to move; None where it trains, and where nothing runs on meta."""
    moved: Moved | None
    failed: str | None = None

    @property
    def ratio(self) -> float | None:
        return self.moved.elements / self.floor if self.moved and self.floor else None

    @property
    def kernels_a_block(self) -> float | None:
        """All kernels of the network over its blocks, so that those of stem and head are shared out as well."""
        return self.moved.kernels / self.blocks if self.moved and self.blocks else None


def traffic(case: Case) -> Traffic:
    """Counts a case, whose device and batch are not asked: an H100 and `BATCH`. What fails is told in the result."""
    from metablocks.bench.failures import compiling, explain

    try:
        with compiling():
            return _spec(case) if case.subject.kind == "spec" else _other(case)
    except (Exception, SystemExit) as error:  # a network of someone else may do anything
        with redirect_stderr(StringIO()):  # a sentence is enough here
            return Traffic(case, None, None, None, explain(error, case)[1])


def _spec(case: Case) -> Traffic:
    import torch

    from metablocks.bench.subject import planned
    from metablocks.bench.traffic.count import moved
    from metablocks.build import dtype_of, lay_out, skeleton, use_kernels
    from metablocks.compiler import Choices, compile_network, settings
    from metablocks.costs.floor import floor

    plan = planned(case.subject)
    dtype = dtype_of(case.dtype)
    model = skeleton(plan).to(dtype)
    cuda = torch.device("cuda")
    lay_out(model, cuda)
    use_kernels(model, case.kernels or "fused")  # type: ignore[arg-type]
    choices = Choices(checkpoint=case.checkpoint, device=cuda)
    stem, stages = plan.encoder.stem, plan.stages
    inputs = [torch.empty(BATCH, stem.channels, *stem.image, dtype=dtype, device="meta")]
    if plan.decoder:
        units = plan.decoder.mask.units
        inputs.append(torch.empty(BATCH, units[0] * units[1], device="meta"))
        stages += plan.decoder.stages

    def prepare(backend: Callable[..., Any]) -> None:
        compile_network(model, case.compile, backend, choices=choices)  # type: ignore[arg-type]

    least = floor(plan) if case.mode == "infer" else None
    found = moved(model, inputs, case.mode, prepare, settings(model, choices).inductor)
    return Traffic(case, sum(len(stage.blocks) for stage in stages), least, found)


def _other(case: Case) -> Traffic:
    from metablocks.bench.models import compile_subject, load
    from metablocks.bench.traffic.count import moved
    from metablocks.bench.work import batches

    found = load(case)
    model, inputs = found.model, batches(case, found.shapes, BATCH)[0]
    least = _floor(model, [one[:1] for one in inputs]) if case.mode == "infer" else None
    return Traffic(case, _blocks(model), least, moved(model, inputs, case.mode, partial(compile_subject, case, found)))


def _floor(model: nn.Module, inputs: Sequence[Tensor]) -> int | None:
    """The floor of a network of someone else; None where it does not run on meta: it reads a value, for one."""
    from copy import deepcopy

    from metablocks.costs.floor import floor_of

    try:
        return floor_of(deepcopy(model).to("meta"), [one.to("meta") for one in inputs])
    except Exception:
        return None


def _blocks(model: nn.Module) -> int | None:
    """How many blocks a network of someone else has, by the names of their classes: `Block`, `SwinTransformerBlock`."""
    named = [module for module in model.modules() if type(module).__name__.endswith("Block")]
    inner = {id(inside) for one in named for inside in one.modules() if inside is not one}
    return sum(id(one) not in inner for one in named) or None
