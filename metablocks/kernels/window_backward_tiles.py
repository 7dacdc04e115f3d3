"""The backward pass of window attention in Triton, where a window is several tiles: no score leaves the chip.

`queries`, a program of which has one head and a tile of queries, gives the gradient of q, and for each query the
logarithm of its summed exponentials and its mean score gradient. From these `keys`, with a tile of keys, gives the
gradients of k and v, and `pairs`, with a tile of both, its share of the gradient of the bias: that stays in registers
while it walks windows, so no sum depends on the order in which programs run.
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
def queries(
    grad, qkv, bias, fill, temperature, grad_qkv, grad_temperature, summed, means,
    total, heads, height, width, down, right, scale,
    WH: tl.constexpr, WW: tl.constexpr, D: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, PLACES: tl.constexpr, KINDS: tl.constexpr,
    FILLED: tl.constexpr, COSINE: tl.constexpr,
):  # fmt: skip
    """Gradients of q, shares of that of the temperature, and two numbers a query."""
    tiles: tl.constexpr = PLACES // BLOCK
    program = tl.program_id(0)
    walkers = tl.num_programs(0) // (heads * tiles)
    head, part, walker = program % heads, program // heads % tiles, program // (heads * tiles)
    query = part * BLOCK + tl.arange(0, BLOCK)
    if COSINE:
        scale = tl.load(temperature + head).to(tl.float32)
    warmth = tl.zeros((BLOCK,), tl.float32)
    channels = heads * D
    for window in range(walker, total, walkers):
        image = image_of(window, height, width, WH, WW)
        kind = kind_of(window, height, width, WH, WW, KINDS)
        at, there, _missing = standing(window, query, height, width, down, right, WH, WW)
        base, row = qkv + image * height * width * 3 * channels + head * D, fill + channels + head * D
        q = rows(base, at, there, 3 * channels, D, BLOCK_D)
        above = grad + image * height * width * channels + head * D
        g = rows(above, at, there, channels, D, BLOCK_D).to(q.dtype)
        highest = tl.full((BLOCK,), float("-inf"), tl.float32)
        total_weight, mean = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
        for tile in range(tiles):
            key = tile * BLOCK + tl.arange(0, BLOCK)
            k, v = _keys(base, row, window, key, heads, height, width, down, right, WH, WW, D, BLOCK_D, FILLED)
            scores = scored(q, k, scale, COSINE) + biased(bias, head, kind, query, key, PLACES, KINDS)
            grad_weights = tl.dot(g, tl.trans(v), input_precision="ieee")
            higher = tl.maximum(highest, tl.max(scores, 1))
            weights, fade = tl.exp(scores - higher[:, None]), tl.exp(highest - higher)
            total_weight = total_weight * fade + tl.sum(weights, 1)
            mean, highest = mean * fade + tl.sum(weights * grad_weights, 1), higher
        mean /= total_weight
        log_sum = highest + tl.log(total_weight)
        grad_q = tl.zeros((BLOCK, BLOCK_D), tl.float32)
        for tile in range(tiles):
            key = tile * BLOCK + tl.arange(0, BLOCK)
            k, v = _keys(base, row, window, key, heads, height, width, down, right, WH, WW, D, BLOCK_D, FILLED)
            scores = scored(q, k, scale, COSINE) + biased(bias, head, kind, query, key, PLACES, KINDS)
            grad_weights = tl.dot(g, tl.trans(v), input_precision="ieee")
            grad_scores = tl.exp(scores - log_sum[:, None]) * (grad_weights - mean[:, None])
            low = (grad_scores * scale).to(q.dtype)
            grad_q = tl.dot(low, directed(k) if COSINE else k, grad_q, input_precision="ieee")
        if COSINE:
            inverse, q = inverse_length(q), directed(q)
            along = tl.sum(grad_q * q.to(tl.float32), 1)
            warmth += along
            grad_q = across(grad_q, q, along, inverse)
        made = grad_qkv + image * height * width * 3 * channels + head * D
        put(made, grad_q, at, there, 3 * channels, D, BLOCK_D)
        first = (window * heads + head).to(tl.int64) * PLACES
        tl.store(summed + first + query, log_sum)
        tl.store(means + first + query, mean)
    if COSINE:
        tl.store(grad_temperature + (walker * tiles + part) * heads + head, tl.sum(warmth, 0) / scale)


@triton.jit
def _keys(
    base, row, window, key, heads, height, width, down, right,
    WH: tl.constexpr, WW: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, FILLED: tl.constexpr,
):  # fmt: skip
    """Tiles of k and v."""
    at, there, missing = standing(window, key, height, width, down, right, WH, WW)
    channels = heads * D
    k = filled(base + channels, row, at, there, missing, 3 * channels, D, BLOCK_D, FILLED)
    v = filled(base + 2 * channels, row + channels, at, there, missing, 3 * channels, D, BLOCK_D, FILLED)
    return k, v


@triton.jit
def keys(
    grad, qkv, bias, fill, temperature, grad_qkv, grad_spare, summed, means,
    total, heads, height, width, down, right, spares, scale,
    WH: tl.constexpr, WW: tl.constexpr, D: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, PLACES: tl.constexpr, KINDS: tl.constexpr,
    FILLED: tl.constexpr, COSINE: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v."""
    tiles: tl.constexpr = PLACES // BLOCK
    program = tl.program_id(0)
    head = program % heads
    key = program // heads % tiles * BLOCK + tl.arange(0, BLOCK)
    if COSINE:
        scale = tl.load(temperature + head).to(tl.float32)
    channels = heads * D
    for window in range(program // (heads * tiles), total, tl.num_programs(0) // (heads * tiles)):
        image = image_of(window, height, width, WH, WW)
        kind = kind_of(window, height, width, WH, WW, KINDS)
        base, row = qkv + image * height * width * 3 * channels + head * D, fill + channels + head * D
        above = grad + image * height * width * channels + head * D
        first = (window * heads + head).to(tl.int64) * PLACES
        k, v = _keys(base, row, window, key, heads, height, width, down, right, WH, WW, D, BLOCK_D, FILLED)
        grad_k, grad_v = tl.zeros((BLOCK, BLOCK_D), tl.float32), tl.zeros((BLOCK, BLOCK_D), tl.float32)
        for part in range(tiles):
            query = part * BLOCK + tl.arange(0, BLOCK)
            at, there, _missing = standing(window, query, height, width, down, right, WH, WW)
            q = rows(base, at, there, 3 * channels, D, BLOCK_D)
            g = rows(above, at, there, channels, D, BLOCK_D).to(q.dtype)
            scores = scored(q, k, scale, COSINE) + biased(bias, head, kind, query, key, PLACES, KINDS)
            weights = tl.exp(scores - tl.load(summed + first + query)[:, None])
            grad_v = tl.dot(tl.trans(weights.to(q.dtype)), g, grad_v, input_precision="ieee")
            grad_weights = tl.dot(g, tl.trans(v), input_precision="ieee")
            low = (weights * (grad_weights - tl.load(means + first + query)[:, None]) * scale).to(q.dtype)
            grad_k = tl.dot(tl.trans(low), directed(q) if COSINE else q, grad_k, input_precision="ieee")
        if COSINE:
            inverse, k = inverse_length(k), directed(k)
            grad_k = across(grad_k, k, tl.sum(grad_k * k.to(tl.float32), 1), inverse)
        made = grad_qkv + image * height * width * 3 * channels + head * D
        spared = grad_spare + image * spares * 2 * channels + head * D
        at, there, missing = standing(window, key, height, width, down, right, WH, WW)
        put_filled(
            made + channels, spared, grad_k, at, there, missing,
            3 * channels, 2 * channels, window, key, height, width, WH, WW, D, BLOCK_D, FILLED,
        )  # fmt: skip
        put_filled(
            made + 2 * channels, spared + channels, grad_v, at, there, missing,
            3 * channels, 2 * channels, window, key, height, width, WH, WW, D, BLOCK_D, FILLED,
        )  # fmt: skip


@triton.jit
def pairs(
    grad, qkv, bias, fill, temperature, grad_bias, summed, means,
    total, heads, height, width, down, right, scale,
    WH: tl.constexpr, WW: tl.constexpr, D: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, PLACES: tl.constexpr, KINDS: tl.constexpr,
    FILLED: tl.constexpr, COSINE: tl.constexpr,
):  # fmt: skip
    """Shares of the gradient of the bias."""
    tiles: tl.constexpr = PLACES // BLOCK
    program = tl.program_id(0)
    walkers = tl.num_programs(0) // (heads * tiles * tiles)
    head, pair, walker = program % heads, program // heads % (tiles * tiles), program // (heads * tiles * tiles)
    query, key = pair // tiles * BLOCK + tl.arange(0, BLOCK), pair % tiles * BLOCK + tl.arange(0, BLOCK)
    if COSINE:
        scale = tl.load(temperature + head).to(tl.float32)
    share = tl.zeros((BLOCK, BLOCK), tl.float32)
    channels = heads * D
    for window in range(walker, total, walkers):
        image = image_of(window, height, width, WH, WW)
        kind = kind_of(window, height, width, WH, WW, KINDS)
        base, row = qkv + image * height * width * 3 * channels + head * D, fill + channels + head * D
        first = (window * heads + head).to(tl.int64) * PLACES
        at, there, _missing = standing(window, query, height, width, down, right, WH, WW)
        q = rows(base, at, there, 3 * channels, D, BLOCK_D)
        g = rows(grad + image * height * width * channels + head * D, at, there, channels, D, BLOCK_D).to(q.dtype)
        k, v = _keys(base, row, window, key, heads, height, width, down, right, WH, WW, D, BLOCK_D, FILLED)
        scores = scored(q, k, scale, COSINE) + biased(bias, head, kind, query, key, PLACES, KINDS)
        weights = tl.exp(scores - tl.load(summed + first + query)[:, None])
        share += weights * (tl.dot(g, tl.trans(v), input_precision="ieee") - tl.load(means + first + query)[:, None])
    at = grad_bias + (walker * heads + head) * (PLACES * PLACES)
    tl.store(at + query[:, None] * PLACES + key[None, :], share)
