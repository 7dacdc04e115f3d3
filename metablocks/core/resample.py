"""How a table over a grid is brought to another grid: each publisher's own way, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]


@dataclass(frozen=True)
class Resampling:
    """An interpolation between the places of a grid."""

    mode: Literal["bilinear", "bicubic"]
    antialias: bool = False
    align_corners: bool = False
    """Corner places stay where they are, instead of the outer edges."""

    def __call__(self, table: Tensor, old: Pair, new: Pair, prefix: int = 0) -> Tensor:
        """(1, prefix + h w, C) of an `old` grid to (1, prefix + h' w', C); prefix rows stay as they are."""
        if old == new:
            return table
        exact = table.to(torch.promote_types(table.dtype, torch.float32))
        image = exact[:, prefix:].unflatten(1, old).permute(0, 3, 1, 2)
        edges = self.align_corners or None  # torch takes a False for a wish
        image = F.interpolate(image, new, mode=self.mode, align_corners=edges, antialias=self.antialias)
        rows = image.permute(0, 2, 3, 1).flatten(1, 2)
        return torch.cat([exact[:, :prefix], rows], 1).to(table.dtype)

    def __str__(self) -> str:
        extras = [name for name in ("antialias", "align_corners") if getattr(self, name)]
        return ", ".join([self.mode, *extras])


# huggingface/pytorch-image-models, `resample_abs_pos_embed`: smoothed, which differs even where the grid grows
TIMM = Resampling("bicubic", antialias=True)
# the same code where it reads Google's files
TIMM_NPZ = Resampling("bilinear")
# facebookresearch/mae, `interpolate_pos_embed`
MAE = Resampling("bicubic")
# microsoft/Swin-Transformer, `load_pretrained` in utils.py
MICROSOFT = Resampling("bicubic")
# google-research/vision_transformer, `load_pretrained`: a zoom of order 1, which keeps the corners
GOOGLE = Resampling("bilinear", align_corners=True)
