"""The backward pass of window attention in Triton, where a window is one tile: nothing of its weights was stored.

A program of `whole` has one head and walks windows: q, k, v and the gradient of the output are read, the weights are
computed again, and the gradients of q, k, v are written. It adds its share of the gradient of the bias up in registers,
and the shares are summed in a fixed order: no atomic additions, so equal runs give equal bits. What is done is written
at once, and what is read is read late: each tile less that is alive is registers that do not spill.
"""

from __future__ import annotations

import triton
import triton.language as tl

from metablocks.kernels.window_tiles import (
    across,
    biased,
    directed,
    filled,
    image_of,
    inverse_length,
    kind_of,
    put,
    put_filled,
    rows,
    scored,
    standing,
)


@triton.jit
def whole(
    grad, qkv, bias, fill, temperature, grad_qkv, grad_spare, grad_bias, grad_temperature,
    total, heads, height, width, down, right, spares, scale,
    WH: tl.constexpr, WW: tl.constexpr, D: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, PLACES: tl.constexpr, KINDS: tl.constexpr,
    FILLED: tl.constexpr, COSINE: tl.constexpr,
):  # fmt: skip
    """All gradients of `total` windows. PLACES is BLOCK."""
    program = tl.program_id(0)
    walkers = tl.num_programs(0) // heads
    head, walker = program % heads, program // heads
    slot = tl.arange(0, BLOCK)
    if COSINE:
        scale = tl.load(temperature + head).to(tl.float32)
    share, warmth = tl.zeros((BLOCK, BLOCK), tl.float32), tl.zeros((BLOCK,), tl.float32)
    channels = heads * D
    for window in range(walker, total, walkers):
        image = image_of(window, height, width, WH, WW)
        kind = kind_of(window, height, width, WH, WW, KINDS)
        at, there, missing = standing(window, slot, height, width, down, right, WH, WW)
        base, row = qkv + image * height * width * 3 * channels + head * D, fill + channels + head * D
        made = grad_qkv + image * height * width * 3 * channels + head * D
        spared = grad_spare + image * spares * 2 * channels + head * D
        q = rows(base, at, there, 3 * channels, D, BLOCK_D)
        k = filled(base + channels, row, at, there, missing, 3 * channels, D, BLOCK_D, FILLED)
        scores = scored(q, k, scale, COSINE) + biased(bias, head, kind, slot, slot, PLACES, KINDS)
        weights = tl.exp(scores - tl.max(scores, 1)[:, None])
        weights = (weights * (1.0 / tl.sum(weights, 1))[:, None]).to(q.dtype)
        g = rows(grad + image * height * width * channels + head * D, at, there, channels, D, BLOCK_D).to(q.dtype)
        grad_v = tl.dot(tl.trans(weights), g, input_precision="ieee")
        put_filled(
            made + 2 * channels, spared + channels, grad_v, at, there, missing,
            3 * channels, 2 * channels, window, slot, height, width, WH, WW, D, BLOCK_D, FILLED,
        )  # fmt: skip
        v = filled(base + 2 * channels, row + channels, at, there, missing, 3 * channels, D, BLOCK_D, FILLED)
        grad_weights = tl.dot(g, tl.trans(v), input_precision="ieee")
        mean = tl.sum(weights.to(tl.float32) * grad_weights, 1)
        grad_scores = weights.to(tl.float32) * (grad_weights - mean[:, None])
        share += grad_scores
        low = (grad_scores * scale).to(q.dtype)
        q_inverse, k_inverse = scale, scale
        if COSINE:
            q_inverse, k_inverse = inverse_length(q), inverse_length(k)
            q, k = directed(q), directed(k)
        grad_q = tl.dot(low, k, input_precision="ieee")
        if COSINE:
            along = tl.sum(grad_q * q.to(tl.float32), 1)
            warmth += along
            grad_q = across(grad_q, q, along, q_inverse)
        put(made, grad_q, at, there, 3 * channels, D, BLOCK_D)
        grad_k = tl.dot(tl.trans(low), q, input_precision="ieee")
        if COSINE:
            grad_k = across(grad_k, k, tl.sum(grad_k * k.to(tl.float32), 1), k_inverse)
        put_filled(
            made + channels, spared, grad_k, at, there, missing,
            3 * channels, 2 * channels, window, slot, height, width, WH, WW, D, BLOCK_D, FILLED,
        )  # fmt: skip
    at = grad_bias + (walker * heads + head) * (PLACES * PLACES)
    tl.store(at + slot[:, None] * PLACES + slot[None, :], share)
    if COSINE:
        tl.store(grad_temperature + walker * heads + head, tl.sum(warmth, 0) / scale)
