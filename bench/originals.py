"""Networks that their publishers do not register in timm, registered there, for `peers.py --import originals`.

Swin and SwinMLP are of microsoft/Swin-Transformer, whose checkout has to be on PYTHONPATH, by the numbers of its
configs. MAE's classifier is timm's ViT with the settings of facebookresearch/mae: that code's own forward pass fails
with today's timm.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import timm
from timm.models import register_model
from torch import nn

SWIN = ("swin_transformer", "SwinTransformer")
SWIN_MLP = ("swin_mlp", "SwinMLP")
MICROSOFT: dict[str, tuple[tuple[str, str], dict[str, Any]]] = {
    "swin_tiny_c24_patch4_window8_256": (SWIN, {"img_size": 256, "window_size": 8, "num_heads": [4, 8, 16, 32]}),
    "swin_mlp_tiny_c24_patch4_window8_256": (
        SWIN_MLP,
        {"img_size": 256, "window_size": 8, "num_heads": [4, 8, 16, 32]},
    ),
    "swin_mlp_tiny_c12_patch4_window8_256": (
        SWIN_MLP,
        {"img_size": 256, "window_size": 8, "num_heads": [8, 16, 32, 64]},
    ),
    "swin_mlp_tiny_c6_patch4_window8_256": (
        SWIN_MLP,
        {"img_size": 256, "window_size": 8, "num_heads": [16, 32, 64, 128]},
    ),
    "swin_mlp_base_patch4_window7_224": (
        SWIN_MLP,
        {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]},
    ),
}


def register(name: str, make: Callable[..., nn.Module]) -> None:
    """Has `timm.create_model(name)` call `make`."""

    def entry(pretrained: bool = False, **settings: Any) -> nn.Module:
        assert not pretrained
        return make(**settings)

    entry.__name__ = name
    register_model(entry)


def microsoft(name: str) -> Callable[..., nn.Module]:
    (module, kind), numbers = MICROSOFT[name]

    def make(**settings: Any) -> nn.Module:
        made: nn.Module = getattr(import_module(f"models.{module}"), kind)(**numbers, **settings)
        return made

    return make


def mae_classifier(global_pool: bool = False, **settings: Any) -> nn.Module:
    pooled = {"global_pool": "avg", "fc_norm": True} if global_pool else {"global_pool": "token", "fc_norm": False}
    made: nn.Module = timm.create_model("vit_base_patch16_224", num_classes=settings["num_classes"], **pooled)
    return made


for known in MICROSOFT:
    register(known, microsoft(known))
register("vit_base_patch16", mae_classifier)
