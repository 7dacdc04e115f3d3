"""The backward pass of a pooling branch in Triton: the transposed stencil on the gradient, twice over an image.

A program has an image. It walks it once for what its channels sum up to, from which come the gradients of all scales
and of the deviation; and back for the gradient of x. Floating-point operations: 4 window^2 + 15 an element. Moved: the
gradient and x read, the gradient of x written; of the second walk, what is still in L2 is not read again. Letters as in
`pool_forward`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from metablocks.kernels.pool_tiles import pooled, tile, vector


@triton.jit
def backward(
    grad, x, weight, scale, skip, kept, before, grad_before, grad_x, shares, passed,
    images, height, width, channels,
    WINDOW: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
    SCALED: tl.constexpr, SKIPS: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    """grad and x (B, N, C) to grad_x (B, N, C); of each image and channel the sums (B, C) of (transpose(grad) - grad)
    (x - mean), and where SKIPS of grad x. before and its gradient (2, B) as `forward` has them."""
    image, tokens = tl.program_id(0), height * width
    start = image.to(tl.int64) * tokens * channels  # offsets of images may need 64 bits
    grad, x, grad_x = grad + start, x + start, grad_x + start
    tiles = tl.cdiv(tokens, BLOCK_N)
    token, channel = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_C)
    mean, inverse = tl.load(before + image), tl.load(before + images + image)
    strength = inverse
    to_mean, to_inverse = tl.load(grad_before + image), tl.load(grad_before + images + image)
    drop = 1.0
    if DROPS:
        drop = tl.load(kept + image).to(tl.float32)
        strength *= drop
    along = tl.zeros([1, BLOCK_C], tl.float32)
    for band in range(tl.cdiv(channels, BLOCK_C)):
        c = band * BLOCK_C + channel
        share, through = tl.zeros([BLOCK_N, BLOCK_C], tl.float32), tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
        for step in range(tiles):
            n = step * BLOCK_N + token
            above = tile(grad, n, c, n < tokens, channels).to(tl.float32)
            turned = pooled(grad, n, c, height, width, channels, WINDOW, True) - above
            value = tile(x, n, c, n < tokens, channels).to(tl.float32)
            share += turned * tl.where((n < tokens)[:, None], value - mean, 0.0)
            if SKIPS:
                through += above * value
        shared = tl.sum(share, 0)
        tl.store(shares + image * channels + c, shared, mask=c < channels)
        if SKIPS:
            tl.store(passed + image * channels + c, tl.sum(through, 0), mask=c < channels)
        factor = vector(weight, c, channels)
        if SCALED:
            factor *= vector(scale, c, channels)
        along += shared[None, :] * factor
    to_inverse += tl.sum(along) * drop
    size = tokens * channels
    slope, offset = -to_inverse * inverse * inverse * inverse / size, to_mean / size

    for back in range(tl.cdiv(channels, BLOCK_C) * tiles):
        step = tl.cdiv(channels, BLOCK_C) * tiles - 1 - back
        n, c = step % tiles * BLOCK_N + token, step // tiles * BLOCK_C + channel
        factor = vector(weight, c, channels) * strength
        if SCALED:
            factor *= vector(scale, c, channels)
        above = tile(grad, n, c, n < tokens, channels).to(tl.float32)
        made = (pooled(grad, n, c, height, width, channels, WINDOW, True) - above) * factor
        if SKIPS:
            above *= vector(skip, c, channels)
        made += above + (tile(x, n, c, n < tokens, channels).to(tl.float32) - mean) * slope + offset
        there = (n < tokens)[:, None] & (c < channels)[None, :]
        tl.store(grad_x + n[:, None] * channels + c[None, :], made.to(grad_x.dtype.element_ty), mask=there)
