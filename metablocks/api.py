"""The public functions: each ties the arrows of the road together."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metablocks.bench import measure
from metablocks.build import Compile, skeleton
from metablocks.build import build as build_plan
from metablocks.core.errors import Fault, InputError, MetablocksError, MissingError, SpecError, StoreError
from metablocks.core.saved import PICTURES, SPEC, saved_metadata, saved_spec
from metablocks.costs import count
from metablocks.images import Recipe, open_picture, recipe_for
from metablocks.images import prepare as prepared
from metablocks.images.recipe import recipe_from
from metablocks.kernels.choice import Kernels
from metablocks.nets import Network
from metablocks.plan import Plan
from metablocks.plan import plan as plan_spec
from metablocks.spec import Edits, Spec, edited, read
from metablocks.spec import edits as assignments
from metablocks.weights import (
    Checkpoint,
    Publisher,
    checkpoint_of,
    contradictions,
    convert,
    load_file,
    locate,
    recognise,
)
from metablocks.weights.save import save as write

Weights = str | Path | Mapping[str, Tensor]
log = logging.getLogger("metablocks")


def plan(source: str | Path | Spec, set: Edits = ()) -> Plan:
    """The plan of a spec: every size known, `params` and `macs` counted on first use. Raises `SpecError`."""
    return replace(plan_spec(_spec(source, set)), counter=count)


def build(  # noqa: PLR0913  (a promise to users)
    source: str | Path | Spec,
    weights: Weights | None = None,
    *,
    set: Edits = (),
    classes: int | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    compile: Compile = "none",
    backend: str | Callable[..., Any] = "inductor",
    dynamic: bool = False,
    kernels: Kernels | None = None,
    autotune: bool = False,
    cuda_graph: bool = False,
    checkpoint: bool | float = False,
) -> Network:
    """The network of a spec on `device`, in evaluation mode. A file of `save` is a spec with its weights.

    `weights` is a publisher's checkpoint or one of ours: a file, a folder, `hf-hub:org/name` or a state dict. Settings
    that the publisher implies are applied to a shipped spec and said in the log. Without weights the publisher's
    initialisation is run. `classes` gives another number of outputs, with a fresh last layer where the weights have
    one for other classes. `kernels`, fused or reference, is for checking one against the other: the default chooses.
    `autotune` has the compiler time every kernel in several ways, not products alone as on CUDA: minutes, once.
    `cuda_graph` launches a forward pass without gradients as one CUDA graph, for small batches.
    `checkpoint` keeps less for the backward pass: True, of each block its input; 0.5, about half of what the compiler
    would keep, and what is cheap is computed again.
    Raises `SpecError`, `InputError` for weights that do not fit, `MissingError` for a device that is not there.
    """
    edits = [*assignments(set), *([] if classes is None else [f"classes={classes}"])]
    spec = _spec(source, edits)
    choices = (compile, backend, dynamic, kernels, autotune, cuda_graph, checkpoint)
    if weights is None and not isinstance(source, Spec) and saved_spec(source):
        weights = source
    if weights is None:
        model = build_plan(plan(spec), None, device, dtype, *choices)
    else:
        weights = weights if isinstance(weights, Mapping) else locate(weights)
        file = _checkpoint(weights)
        publisher = recognise(file.tensors)
        spec = _agreeing(spec, source, edits, publisher)
        planned = plan(spec)
        tensors = _fitting(file, publisher, planned, skeleton(planned).state_dict(), classes is not None)
        model = build_plan(planned, tensors, device, dtype, *choices)
        model.recipe = _recipe(weights, publisher, model, spec)
    model.spec = spec
    return model


def load_weights(model: Network, source: Weights) -> None:
    """Puts a checkpoint into a network, whole or not at all. Raises `InputError` with everything that does not fit."""
    checkpoint = _checkpoint(source)
    publisher = recognise(checkpoint.tensors)
    if model.spec is not None:
        _agreeing(replace(model.spec, shipped=False), "", [], publisher)
    model.load_state_dict(_fitting(checkpoint, publisher, model.plan, model.state_dict(), False))


def save(model: Network, path: str | Path) -> None:
    """Writes weights and resolved spec into one safetensors file, which `build` takes alone, as every command does.

    Raises `InputError` where the network came from no spec, `StoreError` where the file cannot be written.
    """
    if model.spec is None:
        raise InputError(Fault("this network was not built from a spec", help="build it with `metablocks.build`"))
    metadata = {SPEC: json.dumps(model.spec.resolved())}
    if model.recipe is not None:
        metadata[PICTURES] = model.recipe.model_dump_json()
    write(model.state_dict(), metadata, path)


def prepare(model: Network, picture: str | Path) -> Tensor:
    """A picture in a file as the input (1, 3, H, W) of a network, as the publisher of its weights prepares pictures.

    Raises `InputError` where the file holds no picture, or the network takes other than three channels.
    """
    stem = model.plan.encoder.stem
    if stem.channels != 3:
        raise InputError(f"the network takes images of {stem.channels} channels, and pictures have 3")
    recipe = model.recipe or recipe_for("", model.spec.name if model.spec else "", stem.image)
    parameter = next(model.parameters())
    image = prepared(open_picture(picture, upright=True), recipe, stem.image)
    return image[None].to(parameter.device, parameter.dtype)


def _recipe(weights: Weights, publisher: Publisher, model: Network, spec: Spec) -> Recipe:
    """What the file of the weights says itself, or what its publisher does."""
    metadata = None if isinstance(weights, Mapping) else saved_metadata(weights)
    if metadata and PICTURES in metadata:
        return recipe_from(metadata[PICTURES])
    return recipe_for(publisher.name, spec.name, model.plan.encoder.stem.image)


def _spec(source: str | Path | Spec, set: Edits) -> Spec:
    if not isinstance(source, Spec):
        return read(source, set)
    if assignments(set):
        raise InputError(Fault("a spec that is read already takes no edits", help="give them to metablocks.read"))
    return source


def _checkpoint(source: Weights) -> Checkpoint:
    return checkpoint_of(source) if isinstance(source, Mapping) else load_file(source)


def _agreeing(spec: Spec, source: str | Path | Spec, edits: list[str], publisher: Publisher) -> Spec:
    """The spec with the settings that the publisher implies. Raises `InputError` where a user's spec contradicts."""
    wanted = [edit for edit in contradictions(publisher, spec.resolved()) if _matters(spec, edit)]
    if not wanted:
        return spec
    told = " ".join(f"--set '{edit}'" for edit in wanted)
    if not spec.shipped or isinstance(source, Spec):
        raise InputError(Fault(f"the spec contradicts what weights of {publisher.name} imply", help=f"add {told}"))
    log.info("settings of %s: %s", publisher.name, told)
    return read(source, [*edits, *wanted])


def _matters(spec: Spec, edit: str) -> bool:
    """Whether an edit makes another network of a spec: one that changes no size contradicts nothing."""
    try:
        return plan_spec(edited(spec, [edit])) != plan_spec(spec)
    except SpecError:
        return True  # it fits together with others


def _fitting(
    checkpoint: Checkpoint, publisher: Publisher, plan: Plan, wanted: Mapping[str, Tensor], fresh_head: bool
) -> dict[str, Tensor]:
    converted = convert(checkpoint, publisher, plan, wanted, fresh_head)
    for note in converted.notes:
        log.info(note)
    for warning in converted.warnings:
        log.warning(warning)
    return converted.tensors


__all__ = [
    "Edits",
    "InputError",
    "MetablocksError",
    "MissingError",
    "Network",
    "Plan",
    "Spec",
    "SpecError",
    "StoreError",
    "build",
    "load_weights",
    "measure",
    "plan",
    "prepare",
    "read",
    "save",
]
