"""A subject as a module that runs: from a spec, from a peer's library, from a function of a file. In a worker.

Letters: B batch, C channels, H W image, U masked units.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metablocks.bench.case import Case
from metablocks.bench.subject import planned
from metablocks.build import build, compile_network, dtype_of
from metablocks.compiler import Choices, budget
from metablocks.core.errors import Fault, InputError, MissingError
from metablocks.core.text import did_you_mean, printable
from metablocks.costs import Cost, count
from metablocks.kernels.inductor import Settings
from metablocks.plan import Plan

NOISE = 0.02  # added to every weight: publishers start heads and scales at zero, which would hide faults
IMAGE = (224, 224)


@dataclass(frozen=True)
class Shape:
    """The shape of one input without its batch; `like` is an example where the values may not be random.

    `exact`: float32 whatever the case's dtype, as the noise that picks what is masked: every dtype masks the same.
    """

    sizes: tuple[int, ...]
    like: Tensor | None = None
    exact: bool = False


@dataclass(frozen=True)
class Subject:
    """An eager module on the CPU or the device, and what it takes."""

    model: nn.Module
    shapes: tuple[Shape, ...]
    plan: Plan | None = None

    @property
    def image(self) -> tuple[int, int] | None:
        """Height and width, where the first input is images."""
        first = self.shapes[0].sizes
        return (first[1], first[2]) if len(first) == 3 else None


def load(case: Case) -> Subject:
    """The subject of a case on its device, in its dtype, with seeded weights of which none is zero."""
    for name in case.modules:
        import_module(name)
    torch.manual_seed(0)
    found = _KINDS[case.subject.kind](case)
    memory = torch.channels_last if case.channels_last else torch.preserve_format
    found.model.to(case.device, dtype_of(case.weights_dtype)).to(memory_format=memory)  # type: ignore[call-overload]
    with torch.no_grad():
        for parameter in found.model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=NOISE)
    return found


def compile_subject(case: Case, found: Subject, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compiles in place what the case compiles, and sets up activation checkpointing, which goes around it."""
    model: Any = found.model
    if found.plan is not None:
        compile_network(model, case.compile, backend, choices=Choices(checkpoint=case.checkpoint))  # type: ignore[arg-type]
        return
    if case.checkpoint is True:
        if not hasattr(model, "set_grad_checkpointing"):
            wrong = f"{printable(case.subject.name)} has no activation checkpointing"
            raise InputError(Fault(wrong, help="a network with set_grad_checkpointing, as timm's have, or a spec"))
        model.set_grad_checkpointing()
    if case.compile != "none":
        kept = budget(case.checkpoint)
        model.compile(dynamic=False, backend=Settings(functorch=kept).backend(backend) if kept else backend)


def costs(found: Subject) -> Cost:
    """Parameters and multiply-accumulates for one image, of every kind of subject by one counter."""
    if found.plan is not None:
        return count(found.plan).total
    from metablocks.costs.run import count_module

    model = deepcopy(found.model).float().eval()
    try:
        return count_module(model.to("meta"), _single(found, "meta"))
    except Exception:  # some reads a value or keeps a table of its own, and there are none on meta: then for real
        return count_module(deepcopy(found.model).to("cpu").float().eval(), _single(found, "cpu"))


def _single(found: Subject, device: str) -> list[Tensor]:
    """Inputs of a batch of one, whose values do not matter."""
    return [
        torch.zeros(1, *shape.sizes, device=device) if shape.like is None else shape.like[:1].to(device)
        for shape in found.shapes
    ]


def _spec(case: Case) -> Subject:
    plan = planned(case.subject)
    stem = plan.encoder.stem
    shapes = [Shape((stem.channels, *stem.image))]
    if plan.decoder:
        units = plan.decoder.mask.units
        shapes.append(Shape((units[0] * units[1],), exact=True))
    kernels: Any = case.kernels
    return Subject(build(plan, device=case.device, dtype=case.weights_dtype, kernels=kernels), tuple(shapes), plan)


def _timm(case: Case) -> Subject:
    timm = _peer("timm")
    name, image = case.subject.text, case.subject.image
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models()) or "timm.list_models() lists them"
        raise InputError(Fault(f"timm has no network called `{printable(name)}`", help=hint))
    model = _sized(lambda **size: timm.create_model(name, pretrained=False, **size), "img_size", image)
    sizes: Any = model.pretrained_cfg["input_size"]  # type: ignore[index]
    return Subject(model, (Shape((sizes[0], *(image or sizes[1:]))),))


def _torchvision(case: Case) -> Subject:
    library = _peer("torchvision")
    name, image = case.subject.text, case.subject.image
    if name not in library.models.list_models():
        hint = did_you_mean(name, library.models.list_models()) or "torchvision.models.list_models() lists them"
        raise InputError(Fault(f"torchvision has no network called `{printable(name)}`", help=hint))
    side = image[0] if image and image[0] == image[1] else image
    model = _sized(lambda **size: library.models.get_model(name, weights=None, **size), "image_size", side)
    if image is None:
        crop = library.models.get_model_weights(name).DEFAULT.transforms().crop_size
        image = (crop[0], crop[-1])
    return Subject(model, (Shape((3, *image)),))


def _file(case: Case) -> Subject:
    path, _, function = case.subject.given.rpartition(":")
    module = types.ModuleType("metablocks_subject")
    module.__file__ = path
    sys.modules[module.__name__] = module
    sys.path.append(str(Path(path).parent))  # last: a file called random.py must not hide the library's
    exec(compile(case.subject.text, path, "exec"), module.__dict__)
    maker = getattr(module, function, None)
    if not callable(maker):
        hint = did_you_mean(function, [name for name in vars(module) if callable(vars(module)[name])])
        wrong = f"`{printable(Path(path).name)}` has no function `{function}`"
        raise InputError(Fault(wrong, help=hint or "FILE.py:FUNCTION"))
    model, examples = _made(function, maker())
    shapes = tuple(Shape(tuple(item.shape[1:]), None if item.is_floating_point() else item) for item in examples)
    return Subject(model, shapes or (Shape((3, *(case.subject.image or IMAGE))),))


def _made(function: str, returned: Any) -> tuple[nn.Module, list[Tensor]]:
    """The module that a function returned, and its example inputs, each with a batch (B, ...)."""
    model, *examples = (returned if isinstance(returned, tuple | list) else (returned,)) or (None,)
    flat = [item for one in examples for item in (one if isinstance(one, tuple | list) else [one])]
    odd = [] if isinstance(model, nn.Module) else [model]
    odd += [item for item in flat if not (isinstance(item, Tensor) and item.ndim and len(item))]
    if odd:
        got = "a tensor without a batch" if isinstance(odd[0], Tensor) else printable(type(odd[0]).__name__)
        wrong = f"`{function}` returns {got}, where a module, or a module and example inputs, was expected"
        raise InputError(Fault(wrong, help="return model, or return model, images"))
    return model, flat


_KINDS: dict[str, Callable[[Case], Subject]] = {
    "spec": _spec,
    "timm": _timm,
    "torchvision": _torchvision,
    "file": _file,
}


def _peer(name: str) -> Any:
    """A library of someone else. An installed one may still not import, beside another build of torch for one."""
    try:
        return import_module(name)
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no reason given"])[0]
        wrong = f"{name} cannot be imported here: {type(error).__name__}: {printable(first, limit=200)}"
        raise MissingError(Fault(wrong, help=f"install the {name} that fits this torch")) from error


def _sized(make: Callable[..., nn.Module], key: str, image: Any) -> nn.Module:
    """A peer's network for an image size; not every one of them is told."""
    if image is not None:
        try:
            return make(**{key: image})
        except TypeError:
            pass
    return make()
