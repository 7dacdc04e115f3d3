"""Windows over a grid: partition and reverse, relative positions, the mask of shifted windows.

Letters: B batch, H W grid, h w window, n windows of an image, C channels. Swin: Liu et al. 2021, arXiv:2103.14030,
section 3.2 and figure 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

SEPARATE = -100.0
"""Added to the score of two tokens that a shift brought into one window; the value of the original."""


def partition(x: Tensor, window: tuple[int, int]) -> Tensor:
    """(B, H, W, C) to (B n, h w, C), windows and their tokens row by row."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window[0], window[0], width // window[1], window[1], channels)
    return x.transpose(2, 3).reshape(-1, window[0] * window[1], channels)


def reverse(x: Tensor, window: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """(B n, h w, C) to (B, H, W, C), the inverse of `partition`; `size` is (H, W)."""
    rows, columns = size[0] // window[0], size[1] // window[1]
    x = x.view(-1, rows, columns, window[0], window[1], x.shape[-1])
    return x.transpose(2, 3).reshape(-1, size[0], size[1], x.shape[-1])


def relative_index(window: tuple[int, int]) -> Tensor:
    """(h w, h w) rows of the bias table, query minus key: its rows are the (2h - 1)(2w - 1) offsets, row by row."""
    rows, columns = (axis.flatten() for axis in _meshgrid(window))
    below = rows[:, None] - rows[None, :] + window[0] - 1
    right = columns[:, None] - columns[None, :] + window[1] - 1
    return below * (2 * window[1] - 1) + right


def shift_mask(size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """(n, h w, h w): 0 where two tokens of a shifted window were neighbours before the shift, else `SEPARATE`."""
    row = _regions(size[0], window[0], shift[0])
    column = _regions(size[1], window[1], shift[1])
    labels = row[:, None] * 3 + column[None, :]
    labels = partition(labels[None, :, :, None], window).squeeze(-1)
    apart = labels[:, :, None] != labels[:, None, :]
    return torch.zeros(apart.shape, device="cpu").masked_fill(apart, SEPARATE)


def _regions(length: int, window: int, shift: int) -> Tensor:
    """Along one axis: 0 outside the last window, 1 and 2 in its parts before and after the seam."""
    place = torch.arange(length, device="cpu")
    return (place >= length - window).long() + (place >= length - shift).long()


def _meshgrid(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    axes = (torch.arange(length, device="cpu") for length in size)
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    return rows, columns
