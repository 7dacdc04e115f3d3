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
def kind_of(window, height, width, WH: tl.constexpr, WW: tl.constexpr, KINDS: tl.constexpr):
    """Which of four masks a shifted window has: 2 where it is among the lowest of its image, and 1 the rightmost."""
    kind = 0
    if KINDS > 1:
        down_windows, across_windows = (height + WH - 1) // WH, (width + WW - 1) // WW
        inside = window % (down_windows * across_windows)
        lowest = inside // across_windows == down_windows - 1
        kind = lowest.to(tl.int32) * 2 + (inside % across_windows == across_windows - 1).to(tl.int32)
    return kind


@triton.jit
def biased(bias, head, kind, query, key, PLACES: tl.constexpr, KINDS: tl.constexpr):
    """A tile of bias and mask from (heads, KINDS, PLACES, PLACES), of queries and keys, in fp32."""
    at = bias + (head * KINDS + kind) * (PLACES * PLACES) + query[:, None] * PLACES + key[None, :]
    return tl.load(at).to(tl.float32)


@triton.jit
def rows(base, tokens, there, stride, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """A tile of D channels of some tokens; zeros where there is none."""
    channel = tl.arange(0, BLOCK_D)
    mask = there[:, None] & (channel < D)[None, :] if BLOCK_D > D else there[:, None]
    return tl.load(base + tokens[:, None] * stride + channel[None, :], mask=mask, other=0.0)


@triton.jit
def filled(base, fill, at, there, missing, stride, D: tl.constexpr, BLOCK_D: tl.constexpr, FILLED: tl.constexpr):
    """A tile of some tokens, with the row `fill` in the places that padding adds."""
    if FILLED:
        channel = tl.arange(0, BLOCK_D)
        row = tl.where(
            missing, fill, base + at * stride
        )  # a choice of what is read takes fewer registers than of tiles
        held = (there | missing)[:, None]
        mask = held & (channel < D)[None, :] if BLOCK_D > D else held
        tile = tl.load(row[:, None] + channel[None, :], mask=mask, other=0.0)
    else:
        tile = rows(base, at, there, stride, D, BLOCK_D)
    return tile


@triton.jit
def put(base, tile, tokens, there, stride, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Writes a tile to the rows of its tokens."""
    channel = tl.arange(0, BLOCK_D)
    mask = there[:, None] & (channel < D)[None, :] if BLOCK_D > D else there[:, None]
    tl.store(base + tokens[:, None] * stride + channel[None, :], tile.to(base.dtype.element_ty), mask=mask)


@triton.jit
def put_filled(
    base, spares, tile, at, there, missing, stride, spare_stride, window, slot, height, width,
    WH: tl.constexpr, WW: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, FILLED: tl.constexpr,
):  # fmt: skip
    """Writes a tile to the rows of its tokens, and to rows of `spares` what belongs to places that padding adds."""
    if FILLED:
        channel = tl.arange(0, BLOCK_D)
        number = spare(window, slot, height, width, WH, WW)
        row = tl.where(missing, spares + number * spare_stride, base + at * stride)
        held = (there | missing)[:, None]
        mask = held & (channel < D)[None, :] if BLOCK_D > D else held
        tl.store(row[:, None] + channel[None, :], tile.to(base.dtype.element_ty), mask=mask)
    else:
        put(base, tile, at, there, stride, D, BLOCK_D)


@triton.jit
def scored(q, k, scale, COSINE: tl.constexpr):
    """Scores of queries and keys in fp32, without their bias: with COSINE the cosine of each two times the scale."""
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    if COSINE:  # of the rows as they are, because directions in half precision are off by more
        scores *= inverse_length(q)[:, None] * inverse_length(k)[None, :]
    return scores


@triton.jit
def inverse_length(tile):
    """Of each row, one over its length. A row of zeros has no direction: its cosines, and its gradients, are 0."""
    wide = tile.to(tl.float32)
    length = tl.sqrt(tl.sum(wide * wide, 1))
    return tl.where(length > 1e-12, 1.0 / tl.maximum(length, 1e-12), 0.0)


@triton.jit
def directed(tile):
    """The directions of rows, in their dtype."""
    return (tile.to(tl.float32) * inverse_length(tile)[:, None]).to(tile.dtype)


@triton.jit
def across(grad, direction, along, inverse):
    """The gradient of rows from that of their directions, whose product with them is `along`: what turns them."""
    return (grad - direction.to(tl.float32) * along[:, None]) * inverse[:, None]
