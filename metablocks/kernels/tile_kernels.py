"""Attention of short sequences in Triton, where all scores of an image's head are one tile.

A program has one head of one image. `forward` reads q, k and v once, and writes the output. `backward` reads them and
the gradient of the output, computes the weights again and writes the gradients of q, k and v: a whole row of weights is
at hand, so neither the output nor a sum of each row has to have been stored, and no second kernel has to make means of
them. All of it in place in packed tokens: nothing is permuted, and no gradients are stacked. Arithmetic in fp32,
products of tiles in the dtype of the tokens; a token that the tile has and the image does not weighs nothing.
Two products of matrices and 4 maps of B N H D moved in `forward`, five and 7 in `backward`: `tile_twin.elements`.
Letters as in `tile_twin`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from metablocks.kernels.window_tiles import put, rows


@triton.jit
def forward(
    qkv, out, heads, scale,
    N: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Packed (B, N, 3, H, D) to (B, N, H D)."""
    image, head = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    token, channels = tl.arange(0, BLOCK), heads * D
    there = token < N
    base = qkv + image * N * 3 * channels + head * D
    q = rows(base, token, there, 3 * channels, D, BLOCK_D)
    k = rows(base + channels, token, there, 3 * channels, D, BLOCK_D)
    v = rows(base + 2 * channels, token, there, 3 * channels, D, BLOCK_D)
    weights, summed = weighed(q, k, there, scale)
    mixed = tl.dot(weights.to(v.dtype), v, input_precision="ieee") * (1.0 / summed)[:, None]
    put(out + image * N * channels + head * D, mixed, token, there, channels, D, BLOCK_D)


@triton.jit
def backward(
    grad, qkv, grad_qkv, heads, scale,
    N: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The gradient of packed. Each gradient is written at once and v is read late: with both at hand for longer, GPUs
    before sm_90, where operands of matrix instructions are in registers, have too few of them."""
    image, head = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    token, channels = tl.arange(0, BLOCK), heads * D
    there = token < N
    base, made = qkv + image * N * 3 * channels + head * D, grad_qkv + image * N * 3 * channels + head * D
    q = rows(base, token, there, 3 * channels, D, BLOCK_D)
    k = rows(base + channels, token, there, 3 * channels, D, BLOCK_D)
    g = rows(grad + image * N * channels + head * D, token, there, channels, D, BLOCK_D)
    weights, summed = weighed(q, k, there, scale)
    weights *= (1.0 / summed)[:, None]
    grad_v = tl.dot(tl.trans(weights.to(g.dtype)), g, input_precision="ieee")
    put(made + 2 * channels, grad_v, token, there, 3 * channels, D, BLOCK_D)
    v = rows(base + 2 * channels, token, there, 3 * channels, D, BLOCK_D)
    grad_weights = tl.dot(g, tl.trans(v), input_precision="ieee")
    grad_scores = weights * (grad_weights - tl.sum(weights * grad_weights, 1)[:, None])
    low = (grad_scores * scale).to(q.dtype)
    put(made, tl.dot(low, k, input_precision="ieee"), token, there, 3 * channels, D, BLOCK_D)
    grad_k = tl.dot(tl.trans(low), q, input_precision="ieee")
    put(made + channels, grad_k, token, there, 3 * channels, D, BLOCK_D)


@triton.jit
def weighed(q, k, there, scale):
    """Exponentials of scores, over that of the largest of their row, and their sums; 0 where there is no key."""
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    scores = tl.where(there[None, :], scores, float("-inf"))
    weights = tl.exp(scores - tl.max(scores, 1)[:, None])
    return weights, tl.sum(weights, 1)
