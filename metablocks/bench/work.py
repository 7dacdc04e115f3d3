"""What one call of a case does: a forward pass, or a whole step of training. Inputs are seeded, never zeros, rotated.

Letters: B batch, K classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from metablocks.bench.case import Case
from metablocks.bench.models import Shape
from metablocks.build import dtype_of

BUFFERS = 3  # inputs are rotated, so that none is served from a cache
LIMITS = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}

Inputs = tuple[Tensor, ...]
Call = Callable[[], object]


def batches(case: Case, shapes: Sequence[Shape], batch: int) -> list[Inputs]:
    """Seeded normal inputs (B, ...) on the device of the case; of an input with an example, repeats of that."""
    # drawn on the CPU, so that all devices see the same
    generator = torch.Generator().manual_seed(0)
    memory = torch.channels_last if case.channels_last else torch.contiguous_format

    def one(shape: Shape) -> Tensor:
        if shape.like is not None:
            return shape.like[:1].expand(batch, *shape.sizes).contiguous().to(case.device)
        drawn = torch.randn(batch, *shape.sizes, generator=generator)
        dtype = torch.float32 if shape.exact else dtype_of(case.weights_dtype)
        return drawn.to(case.device, dtype, memory_format=memory if drawn.ndim == 4 else torch.preserve_format)

    return [tuple(one(shape) for shape in shapes) for _ in range(BUFFERS)]


@dataclass
class Work:
    """Calls of a model on rotating inputs. With an optimiser each call is a step: forward, backward, update."""

    model: nn.Module
    inputs: list[Inputs]
    amp: torch.dtype | None = None
    optimiser: torch.optim.Optimizer | None = None
    _state: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._following = itertools.cycle(self.inputs)
        device = self.inputs[0][0].device
        self._device = device.type
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.amp == torch.float16)
        self.model.train(self.optimiser is not None)

    def call(self) -> Any:
        """One forward pass, whose output comes back, or one step, whose loss does."""
        if self.optimiser is None:
            return self.run(next(self._following))
        for _, part in self.parts():
            part()
        return self._state["loss"]

    def parts(self) -> tuple[tuple[str, Call], ...]:
        """The parts of a step by name, to be called in this order; none where nothing is trained."""
        if self.optimiser is None:
            return ()
        return ("forward", self._forward), ("backward", self._backward), ("optimiser", self._update)

    def run(self, inputs: Inputs) -> Any:
        """The output of a forward pass on these inputs."""
        with torch.inference_mode(self.optimiser is None), self._autocast():
            return self.model(*inputs, **options(self.model, self.optimiser is not None))

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        if self.amp is None:
            yield
            return
        with torch.autocast(self._device, self.amp):
            yield

    def _forward(self) -> None:
        assert self.optimiser is not None
        self.optimiser.zero_grad(set_to_none=True)
        self._state["loss"] = loss(self.run(next(self._following)))

    def _backward(self) -> None:
        self._scaler.scale(self._state["loss"]).backward()
        self._state["loss"] = self._state["loss"].detach()

    def _update(self) -> None:
        assert self.optimiser is not None
        self._scaler.step(self.optimiser)
        self._scaler.update()


def work(case: Case, model: nn.Module, shapes: Sequence[Shape], batch: int) -> Work:
    """The work of a case: AdamW over everything that is trained where its mode trains, as the papers do.

    Fused: one kernel for many parameters, that every device has.
    """
    amp = dtype_of(case.amp) if case.amp else None
    optimiser = None
    if case.mode != "infer":
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    return Work(model, batches(case, shapes, batch), amp, optimiser)


def options(model: nn.Module, trains: bool) -> Mapping[str, Any]:
    """What a step of training gives a network besides its inputs: one of ours may leave out what its loss is not of."""
    return getattr(model, "training_options", {}) if trains else {}


def loss(output: Any) -> Tensor:
    """What training lowers: the network's own loss where it has one, a first output of one value for that, too.

    Else cross entropy of logits (B, K).
    """
    own = getattr(output, "loss", None)
    if isinstance(own, Tensor):
        return own
    logits = output if isinstance(output, Tensor) else tensors(output)[0]
    if logits.ndim == 0:
        return logits
    if logits.ndim != 2:
        return logits.float().square().mean()
    targets = torch.arange(logits.shape[0], device=logits.device) % logits.shape[1]
    return nn.functional.cross_entropy(logits.float(), targets)


def tensors(output: Any) -> list[Tensor]:
    """The floating-point tensors of an output: a tensor, or a tuple or mapping of them."""
    items = [output] if isinstance(output, Tensor) else list(output.values() if hasattr(output, "values") else output)
    return [item for item in items if isinstance(item, Tensor) and item.is_floating_point()]


def finite(output: Any) -> bool:
    return all(bool(torch.isfinite(item).all()) for item in tensors(output))


@dataclass(frozen=True)
class Difference:
    """How two outputs differ: the largest difference, relative to the largest value of the first, and its limit."""

    largest: float
    limit: float

    @property
    def allowed(self) -> bool:
        return self.largest <= self.limit  # not where it is nan


def compared(first: Any, second: Any, dtype: str) -> Difference:
    """Two outputs of one input side by side."""
    differences = [0.0]
    for one, other in zip(tensors(first), tensors(second), strict=True):
        scale = max(float(one.detach().abs().max()), 1e-30)
        differences.append(float((one.detach().double() - other.detach().double()).abs().max()) / scale)
    # of torch, where a nan is the largest; Python's would pass over it
    return Difference(float(torch.tensor(differences, dtype=torch.float64).max()), LIMITS[dtype.removeprefix("amp_")])
