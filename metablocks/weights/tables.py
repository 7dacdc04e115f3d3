"""Tables of offsets for another window, resampled as their publishers do it.

Microsoft: bicubic without antialias (microsoft/Swin-Transformer, utils.py). timm: linear between the offsets of a grid
whose steps grow geometrically, so that near offsets keep their values (timm 1.0, layers/pos_embed_rel.py, after BEiT).
What is no table of a square window stays as it is.
"""

from __future__ import annotations

import re
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from metablocks.plan import Plan

Pair = tuple[int, int]
IN_A_BLOCK = re.compile(r"(encoder|decoder)\.stages\.(\d+)\.blocks\.(\d+)\.mixer\.op\..*")


def window(plan: Plan, ours: str) -> Pair | None:
    """(rows, columns) of the window that our table of this name is for; None where it is for none."""
    found = IN_A_BLOCK.fullmatch(ours)
    if found is None:
        return None
    stages = plan.stages if found[1] == "encoder" else plan.decoder.stages if plan.decoder else ()
    return getattr(stages[int(found[2])].blocks[int(found[3])].kind.mixer.sizes, "window", None)


def bicubic_offsets(table: Tensor, window: Pair) -> Tensor:
    """(rows, heads) of a square window to the rows of `window`, as Microsoft does."""
    side, wanted = _side(table, 2), _offsets(window)
    if side % 2 == 0 or table.shape[0] == wanted[0] * wanted[1]:
        return table
    image = table.T.unflatten(1, (side, side))[None]
    return _bicubic(image, wanted)[0].flatten(1).T


def geometric_offsets(table: Tensor, window: Pair) -> Tensor:
    """(rows, heads) of a square window to the rows of `window`, as timm does."""
    side, wanted = _side(table, 2), _offsets(window)
    if side % 2 == 0 or wanted == (side, side):
        return table
    image = table.float().unflatten(0, (side, side))
    down, right = (_linear(_growing(side, length), length) for length in wanted)
    return torch.einsum("Hh,hwc,Ww->HWc", down, image, right).flatten(0, 1).to(table.dtype)


def _side(table: Tensor, ndim: int) -> int:
    """The side of the square that a table of `ndim` axes has a row for each place of; 0 where there is none."""
    rows = table.shape[-2] if table.ndim == ndim else 0
    return isqrt(rows) if isqrt(rows) ** 2 == rows else 0


def _offsets(window: Pair) -> Pair:
    """Offsets along each axis of a window."""
    return 2 * window[0] - 1, 2 * window[1] - 1


def _bicubic(image: Tensor, size: Pair) -> Tensor:
    exact = image if image.dtype == torch.float64 else image.float()
    return F.interpolate(exact, size, mode="bicubic", align_corners=False).to(image.dtype)


def _growing(length: int, wanted: int) -> Tensor:
    """(length,) places from the middle outwards, the steps growing by a factor that ends at the outermost offset."""
    low, high, middle = 1.01, 1.5, length // 2
    factor = low
    while high - low > 1e-6:  # timm's bisection, with its bounds: the ends are met where these allow it
        factor = (low + high) / 2
        if (1 - factor**middle) / (1 - factor) > wanted // 2:
            high = factor
        else:
            low = factor
    steps = torch.tensor([factor**power for power in range(middle)], dtype=torch.float64)
    places = steps.cumsum(0)
    return torch.cat([-places.flip(0), torch.zeros(1, dtype=torch.float64), places]).float()


def _linear(places: Tensor, wanted: int) -> Tensor:
    """(wanted, length) weights that read values at `places` out at whole offsets; constant past the ends."""
    offsets = torch.arange(wanted) - wanted // 2.0
    right = torch.bucketize(offsets, places).clamp(max=len(places) - 1)
    left = (right - 1).clamp(min=0)
    gap = (places[right] - places[left]).clamp(min=torch.finfo(places.dtype).tiny)
    share = ((offsets - places[left]) / gap).clamp(0, 1)
    weights = torch.zeros(wanted, len(places))
    weights[torch.arange(wanted), left] += 1 - share
    weights[torch.arange(wanted), right] += share
    return weights


def offset_rows(table: Tensor) -> Tensor:
    """(1, 2h - 1, 2w - 1, 2), the log-spaced offsets in a window as Swin V2 saves them, as rows (offsets, 2)."""
    return table.flatten(0, -2) if table.ndim > 1 else table
