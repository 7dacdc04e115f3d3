"""The publishers' initialisations, as rules over parameter names.

A module that has `reset_parameters`, layers aside, sets its own parameters; each other parameter takes the first rule
whose pattern fits its name. vit: timm 1.0 `init_weights_vit_timm`; vit_jax: google-research/vision_transformer
`models_vit.py`; mixer: timm `mlp_mixer.py`; swin: microsoft/Swin-Transformer; mae: facebookresearch/mae;
metaformer: sail-sg/poolformer; metaformer_baselines: sail-sg/metaformer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Literal

from torch import Tensor, nn
from torch.nn import init

from metablocks.parts.block import Branch

InitName = Literal["vit", "vit_jax", "mixer", "swin", "mae", "metaformer", "metaformer_baselines"]
Fill = Callable[[Tensor], object]


def _normal(std: float) -> Fill:
    return lambda tensor: init.normal_(tensor, std=std)


def _truncated(std: float) -> Fill:
    return lambda tensor: init.trunc_normal_(tensor, std=std)


def _lecun(tensor: Tensor) -> None:
    """Truncated normal of variance 1 / fan_in; the divisor makes up for the cut at two deviations."""
    std = math.sqrt(1 / tensor[0].numel()) / 0.87962566103423978
    init.trunc_normal_(tensor, std=std, a=-2 * std, b=2 * std)


def _each_third(tensor: Tensor) -> None:
    """Xavier for query, key and value apart, which the original keeps as three layers."""
    for part in tensor.chunk(3):
        init.xavier_uniform_(part)


def _as_linear(tensor: Tensor) -> None:
    """Xavier with the patch convolution seen as a linear layer."""
    init.xavier_uniform_(tensor.flatten(1))


BIASES = ("*.bias", init.zeros_)
# None: torch's own default, where the publisher leaves convolutions alone
CONVS = (("*stem.*", None), ("*.conv.*", None))

INITS: dict[InitName, tuple[tuple[str, Fill | None], ...]] = {
    "vit": (*CONVS, BIASES, ("*prefix.*", _normal(1e-6))),
    "vit_jax": (
        ("*.mlp.op.*.bias", _normal(1e-6)),
        BIASES,
        ("*position.table", _normal(0.02)),
        ("*prefix.*", init.zeros_),
        ("*stem.*", _lecun),
        ("head.fc.weight", init.zeros_),
        ("*.qkv.weight", _each_third),
        ("*.weight", init.xavier_uniform_),
    ),
    "mixer": (
        ("*.fc?.bias", _normal(1e-6)),
        BIASES,
        ("*stem.*", _lecun),
        ("head.fc.weight", init.zeros_),
        ("*.weight", init.xavier_uniform_),
    ),
    "swin": (*CONVS, BIASES),
    "mae": (
        ("head.fc.weight", _truncated(2e-5)),  # in fine-tuning
        BIASES,
        ("*prefix.*", _normal(0.02)),
        ("mask_token.token", _normal(0.02)),
        ("*stem.*", _as_linear),
        ("*.weight", init.xavier_uniform_),
    ),
    "metaformer": (*CONVS, BIASES, ("*position.table", init.zeros_)),
    "metaformer_baselines": (BIASES,),  # convolutions too
}
FALLBACK = ("*", _truncated(0.02))
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def initialise(model: nn.Module, name: InitName) -> None:
    """Gives every parameter that is trained its value, in place."""
    rules = (*INITS[name], FALLBACK)
    for path, module in model.named_modules():
        if hasattr(module, "reset_parameters") and not isinstance(module, LAYERS):
            module.reset_parameters()
            continue
        fills = {
            parameter: next(fill for pattern, fill in rules if fnmatchcase(full, pattern))
            for full, parameter in module.named_parameters(path, recurse=False)
            if parameter.requires_grad
        }
        for parameter, fill in fills.items():
            if fill is not None:
                fill(parameter)
        if None in fills.values():
            module.reset_parameters()
    if name == "swin":
        _silence(model)


def _silence(model: nn.Module) -> None:
    """Norms behind a branch start at zero, so that every block starts as the identity: Swin V2's released code."""
    for module in model.modules():
        if isinstance(module, Branch) and not module.pre:
            for parameter in module.norm.parameters():
                init.zeros_(parameter)
