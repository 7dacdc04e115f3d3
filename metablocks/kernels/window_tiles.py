"""What the kernels of window attention have in common, in Triton: where the tokens of a window stand, and its tiles.

No token is moved in memory: shift, partition and reverse are the numbers of rows, worked out where they are used; the
mask of a shifted window is a comparison of two labels. Letters as in `window_layout`; a slot is a place in a window.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def standing(window, slot, height, width, down, right, WH: tl.constexpr, WW: tl.constexpr):
    """Of slots of a window: the token there, whether there is one, whether padding stands there.

    A slot is past its window where it is not below WH WW. The map is rolled up by `down` and left by `right`, then
    padded.
    """
    row, column = place(window, slot, height, width, WH, WW)
    there = (slot < WH * WW) & (row < height) & (column < width)
    from_row = tl.where(row + down >= height, row + down - height, row + down)
    from_column = tl.where(column + right >= width, column + right - width, column + right)
    return from_row * width + from_column, there, (slot < WH * WW) & ~there


@triton.jit
def side(window, slot, height, width, down, right, WH: tl.constexpr, WW: tl.constexpr):
    """A label of the region, one of four, into which the seams of the roll cut the padded map.

    The seams are moved to the window and not its slots to the map: that takes half the registers.
    """
    down_windows, across = (height + WH - 1) // WH, (width + WW - 1) // WW
    inside = window % (down_windows * across)
    below = slot >= ((down_windows - inside // across) * WH - down) * WW
    beyond = slot % WW >= (across - inside % across) * WW - right
    return below.to(tl.int32) * 2 + beyond.to(tl.int32)


@triton.jit
def place(window, slot, height, width, WH: tl.constexpr, WW: tl.constexpr):
    """Row and column of slots on the padded map."""
    across = (width + WW - 1) // WW
    inside = window % (((height + WH - 1) // WH) * across)
    return inside // across * WH + slot // WW, inside % across * WW + slot % WW


@triton.jit
def spare(window, slot, height, width, WH: tl.constexpr, WW: tl.constexpr):
    """The number of a place that padding adds, among those of its image: beside the map, then below it."""
    row, column = place(window, slot, height, width, WH, WW)
    padded = (width + WW - 1) // WW * WW
    beside = row * (padded - width) + column - width
    return tl.where(row < height, beside, height * (padded - width) + (row - height) * padded + column)


@triton.jit
def image_of(window, height, width, WH: tl.constexpr, WW: tl.constexpr):
    """The image of a window; in 64 bits, because offsets of images may need them."""
    return (window // (((height + WH - 1) // WH) * ((width + WW - 1) // WW))).to(tl.int64)


@triton.jit
def bias_tile(table, head, heads, query, key, WH: tl.constexpr, WW: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr):
    """The bias of two slots, query and key, in fp32; -inf where the key is past its window."""
    below = (query // WW)[:, None] - (key // WW)[None, :] + TH - 1
    right = (query % WW)[:, None] - (key % WW)[None, :] + TW - 1
    real = (query < WH * WW)[:, None] & (key < WH * WW)[None, :]
    bias = tl.load(table + (below * (2 * TW - 1) + right) * heads + head, mask=real, other=0.0)
    return tl.where((key < WH * WW)[None, :], bias.to(tl.float32), float("-inf"))


@triton.jit
def rows(base, tokens, there, stride, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """A tile of D channels of some tokens; zeros where there is none."""
    channel = tl.arange(0, BLOCK_D)
    mask = there[:, None] & (channel < D)[None, :] if BLOCK_D > D else there[:, None]
    return tl.load(base + tokens[:, None] * stride + channel[None, :], mask=mask, other=0.0)


@triton.jit
def filled(base, fill, at, there, missing, stride, D: tl.constexpr, BLOCK_D: tl.constexpr, FILLED: tl.constexpr):
    """A tile of some tokens, with the row `fill` in the places that padding adds."""
    tile = rows(base, at, there, stride, D, BLOCK_D)
    if FILLED:
        channel = tl.arange(0, BLOCK_D)
        row = tl.load(fill + channel, mask=channel < D, other=0.0).to(tile.dtype)
        tile = tl.where(missing[:, None], row[None, :], tile)
    return tile


@triton.jit
def put(base, tile, tokens, there, stride, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Writes a tile to the rows of its tokens."""
    channel = tl.arange(0, BLOCK_D)
    mask = there[:, None] & (channel < D)[None, :] if BLOCK_D > D else there[:, None]
    tl.store(base + tokens[:, None] * stride + channel[None, :], tile.to(base.dtype.element_ty), mask=mask)


@triton.jit
def scored(
    q, k, q_factor, k_factor, bias, window, query, key, height, width, down, right,
    WH: tl.constexpr, WW: tl.constexpr, SHIFTED: tl.constexpr, COSINE: tl.constexpr,
):  # fmt: skip
    """Scores of queries and keys in fp32; -100 is added where a shift brought the two together, as in the original."""
    scores = scaled(tl.dot(q, tl.trans(k), input_precision="ieee"), q_factor, k_factor, COSINE) + bias
    if SHIFTED:
        own = side(window, query, height, width, down, right, WH, WW)
        other = side(window, key, height, width, down, right, WH, WW)
        scores = tl.where(own[:, None] == other[None, :], scores, scores - 100.0)
    return scores


@triton.jit
def factors(q, k, scale, COSINE: tl.constexpr):
    """What products of rows are multiplied by. With COSINE the scale over the length of each, in fp32.

    A row of zeros has no direction: its cosines, and its gradients, are 0.
    """
    q_factor, k_factor = scale, scale
    if COSINE:
        q_factor, k_factor = _inverse_length(q) * scale, _inverse_length(k)
    return q_factor, k_factor


@triton.jit
def _inverse_length(tile):
    wide = tile.to(tl.float32)
    length = tl.sqrt(tl.sum(wide * wide, 1))
    return tl.where(length > 1e-12, 1.0 / tl.maximum(length, 1e-12), 0.0)


@triton.jit
def scaled(products, q_factor, k_factor, COSINE: tl.constexpr):
    """Products of queries and keys, or their gradients, times the factors."""
    if COSINE:
        products = products * q_factor[:, None] * k_factor[None, :]
    else:
        products *= q_factor
    return products


@triton.jit
def across(grad, tile, along, factor):
    """The part of a gradient that turns a row and does not make it longer. `along` is its product with the row."""
    return grad - tile.to(tl.float32) * (along * factor * factor)[:, None]
