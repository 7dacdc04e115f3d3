"""The forward pass of window attention in Triton.

A program has one head and a tile of its queries, and walks windows: the tile of the bias stays in registers, and the
scores of a window never leave the chip. Read: q, k, v. Written: the output. Arithmetic in fp32, products of tiles in
the dtype of the map. Letters as in `window_layout`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from metablocks.kernels.window_tiles import bias_tile, factors, filled, image_of, put, rows, scored, standing


@triton.jit
def forward(
    qkv, table, fill, temperature, out, total, heads, height, width, down, right, scale,
    WH: tl.constexpr, WW: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    SHIFTED: tl.constexpr, FILLED: tl.constexpr, COSINE: tl.constexpr,
):  # fmt: skip
    """`total` windows of all images: qkv (B, N, 3C) to out (B, N, C)."""
    tiles: tl.constexpr = (WH * WW + BLOCK_M - 1) // BLOCK_M
    program = tl.program_id(0)
    head = program % heads  # heads first: what neighbours read at one time is next to each other
    query = program // heads % tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    key = tl.arange(0, BLOCK_N)
    bias = bias_tile(table, head, heads, query, key, WH, WW, TH, TW)
    if COSINE:
        scale = tl.load(temperature + head).to(tl.float32)
    channels = heads * D
    for window in range(program // (heads * tiles), total, tl.num_programs(0) // (heads * tiles)):
        image = image_of(window, height, width, WH, WW)
        base = qkv + image * height * width * 3 * channels + head * D
        at, there, _ = standing(window, query, height, width, down, right, WH, WW)
        key_at, key_there, missing = standing(window, key, height, width, down, right, WH, WW)
        q = rows(base, at, there, 3 * channels, D, BLOCK_D)  # a query that padding adds has an output that is cut off
        base, row = base + channels, fill + channels + head * D
        k = filled(base, row, key_at, key_there, missing, 3 * channels, D, BLOCK_D, FILLED)
        v = filled(base + channels, row + channels, key_at, key_there, missing, 3 * channels, D, BLOCK_D, FILLED)
        q_factor, k_factor = factors(q, k, scale, COSINE)
        scores = scored(
            q, k, q_factor, k_factor, bias, window, query, key, height, width, down, right, WH, WW, SHIFTED, COSINE
        )  # fmt: skip
        weights = tl.exp(scores - tl.max(scores, 1)[:, None])
        summed = tl.sum(weights, 1)
        mixed = tl.dot(weights.to(v.dtype), v, input_precision="ieee") * (1.0 / summed)[:, None]
        put(out + image * height * width * channels + head * D, mixed, at, there, channels, D, BLOCK_D)
