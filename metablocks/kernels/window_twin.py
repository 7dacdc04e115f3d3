"""The readable twin of fused window attention: the same numbers from plain PyTorch, on any device, in any dtype.

Liu et al. 2021, arXiv:2103.14030, section 3.2 and equation 4, and arXiv:2111.09883, section 3.3, equation 3.
Letters: B batch, N = H W tokens, C width, h w window, L tokens of a window, n windows of an image, d head_dim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from metablocks.kernels.window_layout import Pair, Windows

SEPARATE = -100.0
"""Added to the score of two tokens that a shift brought into one window; the value of the original."""


def attention(
    qkv: Tensor, table: Tensor, fill: Tensor | None, temperature: Tensor | None, windows: Windows, scale: float
) -> Tensor:
    """softmax(q k^T scale + bias + mask) v in windows: qkv (B, N, 3C), packed (3, heads, d), to (B, N, C).

    `table` (offsets, heads) is the bias of each offset of two tokens, query minus key. `fill` (3C) stands in the places
    that padding adds; zeros without it. With a `temperature` (heads) the score is the cosine times that.
    """
    token, label = places(windows, qkv.device)
    batch, _, packed = qkv.shape
    row = qkv.new_zeros(packed) if fill is None else fill.to(qkv.dtype)
    filled = torch.cat([qkv, row.expand(batch, 1, -1)], 1)
    in_windows = filled[:, token].unflatten(-1, (3, windows.heads, -1))  # (B, n, L, 3, heads, d)
    query, key, value = in_windows.permute(3, 0, 1, 4, 2, 5).unbind(0)  # each (B, n, heads, L, d)
    factor: Tensor | float = scale
    if temperature is not None:
        query, key, factor = F.normalize(query, dim=-1), F.normalize(key, dim=-1), temperature.view(-1, 1, 1)
    scores = query @ key.transpose(-1, -2) * factor + bias_tile(table, windows)
    if any(windows.shift):
        scores = scores + SEPARATE * (label[:, None, :, None] != label[:, None, None, :])
    mixed = scores.softmax(-1).to(value.dtype) @ value
    out = mixed.transpose(2, 3).flatten(3).flatten(1, 2)  # (B, n L, C)
    back = token.flatten().argsort(stable=True)[: qkv.shape[1]]
    return out[:, back]


def bias_tile(table: Tensor, windows: Windows) -> Tensor:
    """(heads, L, L), query and key, from the table of offsets."""
    width = windows.window[1]
    slot = torch.arange(windows.length, device=table.device)
    row, column = slot // width, slot % width
    below = row[:, None] - row + windows.table[0] - 1
    right = column[:, None] - column + windows.table[1] - 1
    return table[below * (2 * windows.table[1] - 1) + right].permute(2, 0, 1)


def places(windows: Windows, device: torch.device) -> tuple[Tensor, Tensor]:
    """(n, L) which token stands in each place, N where none does, and (n, L) a label of the region that it is from."""
    rows = _axis(windows.grid[0], windows.padded[0], windows.shift[0], device)
    columns = _axis(windows.grid[1], windows.padded[1], windows.shift[1], device)
    there = rows[0][:, None] & columns[0]
    token = (rows[1][:, None] * windows.grid[1] + columns[1]).masked_fill(~there, windows.grid[0] * windows.grid[1])
    label = rows[2][:, None] * 2 + columns[2]
    return _in_windows(token, windows.window), _in_windows(label, windows.window)


def _axis(length: int, padded: int, shift: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis of the padded map: whether something stands there, what, and on which side of the seam."""
    at = torch.arange(padded, device=device)
    return at < length, (at + shift) % length, (at >= padded - shift).long()


def _in_windows(image: Tensor, window: Pair) -> Tensor:
    return image.unflatten(1, (-1, window[1])).unflatten(0, (-1, window[0])).transpose(1, 2).flatten(2).flatten(0, 1)
