"""A pooling branch in Triton: norm, pooling, LayerScale and residual of a map in one kernel.

A program has an image. It walks it once for mean and deviation, then back, from what it read last, for the stencil: of
that walk, what is still in L2 is not read from memory again. Mean and bias of the norm cancel in pool(y) - y, so that
the norm is one number an image beside its weight. While it writes, it gathers the statistics of what it writes, which
the next norm would have to read it for. Floating-point operations: window^2 + 10 an element. Moved: the map read, the
map written. Letters: B images, N = H W tokens, C width.
"""

from __future__ import annotations

import triton
import triton.language as tl

from metablocks.kernels.pool_tiles import pooled, tile, vector


@triton.jit
def forward(
    x, weight, scale, skip, kept, out, before, after, images, height, width, channels, eps,
    WINDOW: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
    SCALED: tl.constexpr, SKIPS: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    """x (B, N, C) to out (B, N, C); before and after (2, B): mean and one over the deviation of x and of out."""
    image, tokens = tl.program_id(0), height * width
    start = image.to(tl.int64) * tokens * channels  # offsets of images may need 64 bits
    x, out = x + start, out + start
    bands, tiles = tl.cdiv(channels, BLOCK_C), tl.cdiv(tokens, BLOCK_N)
    token, channel = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_C)
    first = tile(x, token, channel, token < tokens, channels).to(tl.float32)
    summed, squared = tl.zeros_like(first), tl.zeros_like(first)
    for step in tl.range(bands * tiles, loop_unroll_factor=4):  # loads that are under way at a time
        n, c = step % tiles * BLOCK_N + token, step // tiles * BLOCK_C + channel
        off = tile(x, n, c, n < tokens, channels).to(tl.float32) - first
        off = tl.where((n < tokens)[:, None] & (c < channels)[None, :], off, 0.0)
        summed, squared = summed + off, squared + off * off
    mean, inverse = put_together(first, summed, squared, tokens, channels, eps)
    put(before, mean, inverse, image, images)

    if SKIPS:
        first *= vector(skip, channel, channels)
    if DROPS:
        inverse *= tl.load(kept + image).to(tl.float32)
    summed, squared = tl.zeros_like(first), tl.zeros_like(first)
    for back in range(bands * tiles):
        step = bands * tiles - 1 - back
        n, c = step % tiles * BLOCK_N + token, step // tiles * BLOCK_C + channel
        factor = vector(weight, c, channels) * inverse
        if SCALED:
            factor *= vector(scale, c, channels)
        centre = tile(x, n, c, n < tokens, channels).to(tl.float32)
        value = (pooled(x, n, c, height, width, channels, WINDOW, False) - centre) * factor
        if SKIPS:
            value += centre * vector(skip, c, channels)
        else:
            value += centre
        stored = value.to(out.dtype.element_ty)
        there = (n < tokens)[:, None] & (c < channels)[None, :]
        tl.store(out + n[:, None] * channels + c[None, :], stored, mask=there)
        off = tl.where(there, stored.to(tl.float32) - first, 0.0)
        summed, squared = summed + off, squared + off * off
    mean, inverse = put_together(first, summed, squared, tokens, channels, eps)
    put(after, mean, inverse, image, images)


@triton.jit
def put_together(first, summed, squared, tokens, channels, eps):
    """Mean and one over the deviation of a map, each lane of whose tiles has summed up what its values are off `first`,
    which is near them: so nothing cancels where the mean is large.

    Chan et al. 1979, Updating formulae and a pairwise algorithm for computing sample variances.
    """
    count = seen(tokens, first.shape[0])[:, None] * seen(channels, first.shape[1])[None, :]
    size, some = tokens * channels, tl.maximum(count, 1.0)
    centre = first + summed / some
    mean = tl.sum(centre * count) / size
    spread = tl.sum(squared - summed * summed / some + (centre - mean) * (centre - mean) * count) / size
    return mean, 1.0 / tl.sqrt(tl.maximum(spread, 0.0) + eps)


@triton.jit
def seen(length, BLOCK: tl.constexpr):
    """How many of `length` places each lane of a block that walks them has; none where it is past them."""
    return (tl.maximum(length - tl.arange(0, BLOCK) + BLOCK - 1, 0) // BLOCK).to(tl.float32)


@triton.jit
def put(statistics, mean, inverse, image, images):
    tl.store(statistics + image, mean)
    tl.store(statistics + images + image, inverse)
