"""The backward pass of window attention in Triton: the weights are computed again, and nothing of them is stored.

`queries` has the tile layout of the forward pass. Where a window is one tile, all gradients come from it: q, k, v and
the gradient of the output are read, those of q, k, v are written. Else it gives the gradient of q, and for each query
the logarithm of its summed exponentials and its mean score gradient; from these `keys`, a program of which has all
queries and a tile of keys, gives those of k and v. A program adds its share of the gradient of the bias up in
registers, and `offsets` sums the shares in a fixed order: no atomic additions, so equal runs give equal bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

from metablocks.kernels.window_tiles import (
    across,
    bias_tile,
    factors,
    filled,
    image_of,
    put,
    rows,
    scaled,
    scored,
    spare,
    standing,
)


@triton.jit
def queries(
    grad, qkv, table, fill, temperature, grad_qkv, grad_spare, grad_bias, grad_temperature, summed, means,
    total, heads, height, width, down, right, spares, scale,
    WH: tl.constexpr, WW: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    SHIFTED: tl.constexpr, FILLED: tl.constexpr, COSINE: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Gradients of q, of shares of the bias and the temperature, and where a tile is a window of k and v."""
    tiles: tl.constexpr = (WH * WW + BLOCK_M - 1) // BLOCK_M
    program = tl.program_id(0)
    walkers = tl.num_programs(0) // (heads * tiles)
    head, tile, walker = program % heads, program // heads % tiles, program // (heads * tiles)
    query, key = tile * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    bias = bias_tile(table, head, heads, query, key, WH, WW, TH, TW)
    if COSINE:
        scale = tl.load(temperature + head).to(tl.float32)
    share = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    warmth = tl.zeros((BLOCK_M,), tl.float32)
    channels = heads * D
    for window in range(walker, total, walkers):
        image = image_of(window, height, width, WH, WW)
        at, there, _ = standing(window, query, height, width, down, right, WH, WW)
        key_at, key_there, missing = standing(window, key, height, width, down, right, WH, WW)
        q, k, v, g = _loaded(
            grad, qkv, fill, image, at, there, key_at, key_there, missing, head, heads, height * width,
            D, BLOCK_D, FILLED,
        )  # fmt: skip
        q_factor, k_factor = factors(q, k, scale, COSINE)
        scores = scored(
            q, k, q_factor, k_factor, bias, window, query, key, height, width, down, right, WH, WW, SHIFTED, COSINE
        )  # fmt: skip
        highest = tl.max(scores, 1)
        weights = tl.exp(scores - highest[:, None])
        total_weight = tl.sum(weights, 1)
        weights = (weights * (1.0 / total_weight)[:, None]).to(q.dtype)  # half the registers while its gradient is made
        base = grad_qkv + image * height * width * 3 * channels + head * D
        if WHOLE:  # what is done is written at once, so that it leaves its registers
            grad_v = tl.dot(tl.trans(weights), g, input_precision="ieee")
            _put_key(
                base + 2 * channels, grad_spare + channels, grad_v, image, window, key, key_at, key_there, missing,
                head, heads, height, width, spares, WH, WW, D, BLOCK_D, FILLED,
            )  # fmt: skip
        grad_weights = tl.dot(g, tl.trans(v), input_precision="ieee")
        mean = tl.sum(weights.to(tl.float32) * grad_weights, 1)
        grad_scores = weights.to(tl.float32) * (grad_weights - mean[:, None])
        share += grad_scores
        low = scaled(grad_scores, q_factor, k_factor, COSINE).to(q.dtype)
        if WHOLE:
            grad_k = tl.dot(tl.trans(low), q, input_precision="ieee")
            if COSINE:
                grad_k = across(grad_k, k, tl.sum(grad_k * k.to(tl.float32), 1), k_factor)
            _put_key(
                base + channels, grad_spare, grad_k, image, window, key, key_at, key_there, missing,
                head, heads, height, width, spares, WH, WW, D, BLOCK_D, FILLED,
            )  # fmt: skip
        grad_q = tl.dot(low, k, input_precision="ieee")
        if COSINE:
            along = tl.sum(grad_q * q.to(tl.float32), 1)
            warmth += along
            grad_q = across(grad_q, q, along, q_factor / scale)
        put(base, grad_q, at, there, 3 * channels, D, BLOCK_D)
        if not WHOLE:
            first = (window * heads + head).to(tl.int64) * (tiles * BLOCK_M)
            tl.store(summed + first + query, highest + tl.log(total_weight))
            tl.store(means + first + query, mean)
    first = (walker * heads + head) * (tiles * BLOCK_M) * BLOCK_N
    tl.store(grad_bias + first + query[:, None] * BLOCK_N + key[None, :], share)
    if COSINE:
        tl.store(grad_temperature + (walker * tiles + tile) * heads + head, tl.sum(warmth, 0) / scale)


@triton.jit
def keys(
    grad, qkv, table, fill, temperature, grad_qkv, grad_spare, summed, means,
    total, heads, height, width, down, right, spares, scale,
    WH: tl.constexpr, WW: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    SUMS: tl.constexpr, SHIFTED: tl.constexpr, FILLED: tl.constexpr, COSINE: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v from all BLOCK_M queries of a window and BLOCK_N of its keys. SUMS a window were stored."""
    tiles: tl.constexpr = (WH * WW + BLOCK_N - 1) // BLOCK_N
    program = tl.program_id(0)
    head = program % heads
    query, key = tl.arange(0, BLOCK_M), program // heads % tiles * BLOCK_N + tl.arange(0, BLOCK_N)
    bias = bias_tile(table, head, heads, query, key, WH, WW, TH, TW)
    if COSINE:
        scale = tl.load(temperature + head).to(tl.float32)
    for window in range(program // (heads * tiles), total, tl.num_programs(0) // (heads * tiles)):
        image = image_of(window, height, width, WH, WW)
        at, there, _ = standing(window, query, height, width, down, right, WH, WW)
        key_at, key_there, missing = standing(window, key, height, width, down, right, WH, WW)
        q, k, v, g = _loaded(
            grad, qkv, fill, image, at, there, key_at, key_there, missing, head, heads, height * width,
            D, BLOCK_D, FILLED,
        )  # fmt: skip
        q_factor, k_factor = factors(q, k, scale, COSINE)
        scores = scored(
            q, k, q_factor, k_factor, bias, window, query, key, height, width, down, right, WH, WW, SHIFTED, COSINE
        )  # fmt: skip
        first = (window * heads + head).to(tl.int64) * SUMS
        log_sum = tl.load(summed + first + query, mask=query < SUMS, other=0.0)
        mean = tl.load(means + first + query, mask=query < SUMS, other=0.0)
        weights = tl.where(there[:, None], tl.exp(scores - log_sum[:, None]), 0.0)
        grad_scores = weights * (tl.dot(g, tl.trans(v), input_precision="ieee") - mean[:, None])
        low = scaled(grad_scores, q_factor, k_factor, COSINE).to(q.dtype)
        grad_k = tl.dot(tl.trans(low), q, input_precision="ieee")
        if COSINE:
            grad_k = across(grad_k, k, tl.sum(grad_k * k.to(tl.float32), 1), k_factor)
        grad_v = tl.dot(tl.trans(weights.to(q.dtype)), g, input_precision="ieee")
        base = grad_qkv + image * height * width * 3 * heads * D + head * D
        _put_key(
            base + 2 * heads * D, grad_spare + heads * D, grad_v, image, window, key, key_at, key_there, missing,
            head, heads, height, width, spares, WH, WW, D, BLOCK_D, FILLED,
        )  # fmt: skip
        _put_key(
            base + heads * D, grad_spare, grad_k, image, window, key, key_at, key_there, missing,
            head, heads, height, width, spares, WH, WW, D, BLOCK_D, FILLED,
        )  # fmt: skip


@triton.jit
def _loaded(
    grad, qkv, fill, image, at, there, key_at, key_there, missing, head, heads, tokens,
    D: tl.constexpr, BLOCK_D: tl.constexpr, FILLED: tl.constexpr,
):  # fmt: skip
    """Tiles of q, k, v and of the gradient of the output."""
    stride = 3 * heads * D
    base = qkv + image * tokens * stride + head * D
    key, row = base + heads * D, fill + heads * D + head * D
    q = rows(base, at, there, stride, D, BLOCK_D)
    k = filled(key, row, key_at, key_there, missing, stride, D, BLOCK_D, FILLED)
    v = filled(key + heads * D, row + heads * D, key_at, key_there, missing, stride, D, BLOCK_D, FILLED)
    g = rows(grad + image * tokens * heads * D + head * D, at, there, heads * D, D, BLOCK_D)
    return q, k, v, g.to(q.dtype)


@triton.jit
def _put_key(
    base, grad_spare, tile, image, window, key, key_at, key_there, missing, head, heads, height, width, spares,
    WH: tl.constexpr, WW: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, FILLED: tl.constexpr,
):  # fmt: skip
    """Writes a gradient of k or v: of tokens to those of qkv, of padding to its half of (B, spares, 2C)."""
    put(base, tile, key_at, key_there, 3 * heads * D, D, BLOCK_D)
    if FILLED:
        number = spare(window, key, height, width, WH, WW)
        put(grad_spare + image * spares * 2 * heads * D + head * D, tile, number, missing, 2 * heads * D, D, BLOCK_D)


@triton.jit
def offsets(
    grad_bias, grad_table, walkers, heads,
    WH: tl.constexpr, WW: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Sums the shares (walkers, heads, ROWS, BLOCK_N) of one offset and head into its row of (offsets, heads)."""
    head, offset = tl.program_id(0), tl.program_id(1)
    below, right = offset // (2 * WW - 1) - WH + 1, offset % (2 * WW - 1) - WW + 1
    key = tl.arange(0, BLOCK_N)
    row, column = key // WW + below, key % WW + right
    real = (key < WH * WW) & (row >= 0) & (row < WH) & (column >= 0) & (column < WW)
    pair = (row * WW + column) * BLOCK_N + key
    total = tl.zeros((BLOCK_W, BLOCK_N), tl.float32)
    for first in range(0, walkers, BLOCK_W):
        walker = first + tl.arange(0, BLOCK_W)
        at = grad_bias + ((walker * heads + head) * (ROWS * BLOCK_N))[:, None] + pair[None, :]
        total += tl.load(at, mask=(walker < walkers)[:, None] & real[None, :], other=0.0)
    at = (below + TH - 1) * (2 * TW - 1) + right + TW - 1
    tl.store(grad_table + at * heads + head, tl.sum(tl.sum(total, 1), 0).to(grad_table.dtype.element_ty))
