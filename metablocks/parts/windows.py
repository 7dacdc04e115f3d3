"""Windows over a grid as row indices: which token stands where, relative positions, the mask of shifted windows.

Letters: H W grid, h w window, n windows of an image, L = h w tokens of a window. Swin: Liu et al. 2021,
arXiv:2103.14030, section 3.2 and figure 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metablocks.kernels.window_twin import SEPARATE

Pair = tuple[int, int]
Device = torch.device | str


def window_order(size: Pair, window: Pair, shift: Pair, device: Device = "cpu") -> Tensor:
    """(n, L) tokens of an H x W grid in its windows, row by row, after a cyclic shift up and left.

    Where windows reach past the grid stands H W, the number of a row of zeros behind the tokens: as the original
    does, the map is shifted first and padded then.
    """
    tokens = torch.arange(size[0] * size[1], device=device).view(size)
    if any(shift):
        tokens = tokens.roll((-shift[0], -shift[1]), (0, 1))
    bottom, right = padding(size, window)
    padded = torch.nn.functional.pad(tokens, (0, right, 0, bottom), value=tokens.numel())
    return _windows(padded, window)


def framed_order(size: Pair, window: Pair, shift: Pair, device: Device = "cpu") -> Tensor:
    """(n, L) tokens in windows that a frame of padding shifts, where `shift` is not 0: nothing is rolled.

    Above stand h - shift rows, left w - shift columns, and what is missing to whole windows follows below and right.
    H W is the number of a row of zeros behind the tokens. As in the original of SwinMLP.
    """
    before = [length - step if step else 0 for length, step in zip(window, shift, strict=True)]
    bottom, right = padding((size[0] + before[0], size[1] + before[1]), window)
    tokens = torch.arange(size[0] * size[1], device=device).view(size)
    framed = torch.nn.functional.pad(tokens, (before[1], right, before[0], bottom), value=tokens.numel())
    return _windows(framed, window)


def token_order(order: Tensor, tokens: int) -> Tensor:
    """(H W) where each token stands in `order`: the inverse of `window_order`, which leaves padding behind."""
    places = torch.empty(tokens + 1, dtype=order.dtype, device=order.device)
    places[order.flatten()] = torch.arange(order.numel(), device=order.device)
    return places[:tokens]


def across(size: Pair, window: Pair) -> Pair:
    """Windows down and across an image, those that reach past it too."""
    return (size[0] + window[0] - 1) // window[0], (size[1] + window[1] - 1) // window[1]


def padding(size: Pair, window: Pair) -> Pair:
    """Rows and columns that are missing to whole windows."""
    return -size[0] % window[0], -size[1] % window[1]


def relative_index(window: Pair, table: Pair | None = None, device: Device = "cpu") -> Tensor:
    """(L, L) rows of the bias table, query minus key: its rows are the (2h - 1)(2w - 1) offsets, row by row.

    The table may be that of a larger window, `table`.
    """
    reach = table or window
    rows, columns = torch.meshgrid(*(torch.arange(side, device=device) for side in window), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    below = rows[:, None] - rows[None, :] + reach[0] - 1
    right = columns[:, None] - columns[None, :] + reach[1] - 1
    return below * (2 * reach[1] - 1) + right


def log_offsets(window: Pair, trained: Pair) -> Tensor:
    """((2h - 1)(2w - 1), 2) rows and columns of each offset, log-spaced, in the order of `relative_index`.

    sign(x) log2(8 |x| + 1) / log2(8) for x in windows of the size `trained`. Swin V2: Liu et al. 2021,
    arXiv:2111.09883, section 3.3, equation 4, with the factors of the released code, which has it in fp32.
    """
    axes = []
    for length, whole in zip(window, trained, strict=True):
        offsets = torch.arange(1 - length, length, dtype=torch.float32, device="cpu")
        scaled = offsets / max(whole - 1, 1) * 8  # a window of one token has the offset 0 alone
        axes.append(scaled.sign() * torch.log2(scaled.abs() + 1) / 3)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1)


def shift_mask(size: Pair, window: Pair, shift: Pair, device: Device = "cpu") -> Tensor:
    """(n, L, L): 0 where two tokens of a shifted window were neighbours before the shift, else `SEPARATE`."""
    bottom, right = padding(size, window)
    row, column = _regions(size[0] + bottom, shift[0], device), _regions(size[1] + right, shift[1], device)
    regions = _windows(row[:, None] * 2 + column[None, :], window)
    apart = regions[:, :, None] != regions[:, None, :]
    return torch.zeros(apart.shape, device=device).masked_fill(apart, SEPARATE)


def _regions(length: int, shift: int, device: Device) -> Tensor:
    """Along one axis: 0 before the seam, 1 after it, where the shift brought the other edge."""
    return (torch.arange(length, device=device) >= length - shift).long()


def _windows(image: Tensor, window: Pair) -> Tensor:
    """(H, W) to (n, L), windows and their tokens row by row."""
    rows = image.unflatten(0, (-1, window[0])).unflatten(2, (-1, window[1]))
    return rows.transpose(1, 2).flatten(2).flatten(0, 1)
