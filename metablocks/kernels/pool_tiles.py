"""What the kernels of a pooling branch have in common, in Triton: tiles of tokens and channels, and their means.

Letters: N = H W tokens, C width.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def pooled(x, n, c, height, width, channels, WINDOW: tl.constexpr, BACK: tl.constexpr):
    """Means over the window around tokens n, of channels c, in fp32: what is outside the map does not count.

    BACK is the transpose, which gradients take: each token hands its share to those that it is the mean of.
    """
    reach: tl.constexpr = WINDOW // 2
    row, column = n // width, n % width
    summed = tl.zeros([n.shape[0], c.shape[0]], tl.float32)
    for down in range(-reach, reach + 1):
        for place in tl.static_range(WINDOW):
            right = place - reach
            inside = (row + down >= 0) & (row + down < height) & (column + right >= 0) & (column + right < width)
            value = tile(x, n + down * width + right, c, inside & (row < height), channels).to(tl.float32)
            if BACK:
                value *= share(row + down, column + right, height, width, WINDOW)[:, None]
            summed += value
    if not BACK:
        summed *= share(row, column, height, width, WINDOW)[:, None]
    return summed


@triton.jit
def share(row, column, height, width, WINDOW: tl.constexpr):
    """One over the tokens that are in the window around a place."""
    reach: tl.constexpr = WINDOW // 2
    rows = tl.minimum(row + reach, height - 1) - tl.maximum(row - reach, 0) + 1
    columns = tl.minimum(column + reach, width - 1) - tl.maximum(column - reach, 0) + 1
    return 1.0 / tl.maximum(rows * columns, 1).to(tl.float32)


@triton.jit
def tile(base, n, c, there, channels):
    """Channels c of tokens n; zeros where there is none."""
    return tl.load(base + n[:, None] * channels + c[None, :], mask=there[:, None] & (c < channels)[None, :], other=0.0)


@triton.jit
def vector(base, c, channels):
    """A number of each channel, beside a tile."""
    return tl.load(base + c, mask=c < channels, other=0.0).to(tl.float32)[None, :]
