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
    query, key, value = _in_heads(qkv, fill, token, windows)
    query, key, factor = _directed(query, key, temperature, scale)
    weights = _weights(query @ key.transpose(-1, -2) * factor + bias_tile(table, windows), label, windows)
    out = (weights @ value).transpose(2, 3).flatten(3).flatten(1, 2).to(qkv.dtype)  # (B, n L, C)
    return out[:, token.flatten().argsort(stable=True)[: qkv.shape[1]]]


def gradients(
    grad: Tensor,
    qkv: Tensor,
    table: Tensor,
    fill: Tensor | None,
    temperature: Tensor | None,
    windows: Windows,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of qkv, table, `fill` and temperature, from that of the output; one that is not there has no elements."""
    token, label = places(windows, qkv.device)
    rows, columns, value = _in_heads(qkv, fill, token, windows)
    query, key, factor = _directed(rows, columns, temperature, scale)
    weights = _weights(query @ key.transpose(-1, -2) * factor + bias_tile(table, windows), label, windows)
    above = F.pad(grad, (0, 0, 0, 1))[:, token].unflatten(-1, (windows.heads, -1)).transpose(2, 3).to(value.dtype)
    grad_weights = above @ value.transpose(-1, -2)
    grad_scores = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdim=True))
    grad_query, grad_key = grad_scores @ key * factor, grad_scores.transpose(-1, -2) @ query * factor
    grad_table = torch.zeros_like(table).index_add_(
        0, _offsets(windows, table.device).flatten(), grad_scores.sum((0, 1)).permute(1, 2, 0).flatten(0, 1).to(table)
    )
    warmth = qkv.new_zeros(0)
    if temperature is not None:
        warmth = ((grad_query * query).sum((0, 1, 3, 4)) / temperature).to(temperature)
        grad_query, grad_key = _turned(grad_query, query, rows), _turned(grad_key, key, columns)
    made = torch.stack([grad_query, grad_key, weights.transpose(-1, -2) @ above], 2)  # (B, n, 3, heads, L, d)
    made = made.permute(0, 1, 4, 2, 3, 5).flatten(3).flatten(1, 2)
    every = made.new_zeros(qkv.shape[0], qkv.shape[1] + 1, qkv.shape[2]).index_add_(1, token.flatten(), made)
    grad_fill = qkv.new_zeros(0) if fill is None else every[:, -1].sum(0).to(fill)
    return every[:, :-1].to(qkv.dtype).contiguous(), grad_table, grad_fill, warmth


def _in_heads(qkv: Tensor, fill: Tensor | None, token: Tensor, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of windows, each (B, n, heads, L, d), in fp32 at least, as on the chip."""
    batch, _, packed = qkv.shape
    row = qkv.new_zeros(packed) if fill is None else fill.to(qkv.dtype)
    filled = torch.cat([qkv, row.expand(batch, 1, -1)], 1)
    in_windows = filled[:, token].unflatten(-1, (3, windows.heads, -1))  # (B, n, L, 3, heads, d)
    wide = torch.promote_types(qkv.dtype, torch.float32)
    query, key, value = in_windows.permute(3, 0, 1, 4, 2, 5).to(wide).unbind(0)
    return query, key, value


def _directed(
    query: Tensor, key: Tensor, temperature: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor | float]:
    """Query and key, with a temperature as directions, and the factor of their products."""
    if temperature is None:
        return query, key, scale
    return F.normalize(query, dim=-1), F.normalize(key, dim=-1), temperature.view(-1, 1, 1)


def _turned(grad: Tensor, direction: Tensor, row: Tensor) -> Tensor:
    """The gradient of rows from that of their directions: what is across them, over their length."""
    length = row.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return (grad - direction * (grad * direction).sum(-1, keepdim=True)) / length


def _weights(scores: Tensor, label: Tensor, windows: Windows) -> Tensor:
    """(B, n, heads, L, L) softmax of the scores, which are masked where a shift brought two tokens together."""
    if any(windows.shift):
        scores = scores + SEPARATE * (label[:, None, :, None] != label[:, None, None, :])
    return scores.softmax(-1)


def bias_tile(table: Tensor, windows: Windows) -> Tensor:
    """(heads, L, L), query and key, from the table of offsets."""
    return table[_offsets(windows, table.device)].permute(2, 0, 1)


def _offsets(windows: Windows, device: torch.device) -> Tensor:
    """(L, L) the row of the table for each pair, query and key."""
    slot = torch.arange(windows.length, device=device)
    row, column = slot // windows.window[1], slot % windows.window[1]
    below = row[:, None] - row + windows.table[0] - 1
    right = column[:, None] - column + windows.table[1] - 1
    return below * (2 * windows.table[1] - 1) + right


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
