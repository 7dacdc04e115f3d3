"""The forward pass of window attention in Triton.

`spread` writes the tiles of bias and mask that the other kernels read: one for each head and each of the four ways in
which seams of a shift can cut a window. A program of `forward` has one head and a tile of queries and walks windows,
tile by tile of their keys, with a running maximum and sum (Dao et al. 2022, arXiv:2205.14135), so no score leaves the
chip. Read: q, k, v. Written: the output. Arithmetic in fp32, products of tiles in the dtype of the map. Letters as in
`window_layout`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from metablocks.kernels.window_tiles import biased, filled, image_of, kind_of, put, rows, scored, standing


@triton.jit
def spread(
    table, bias, heads, down, right,
    WH: tl.constexpr, WW: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr,
    BLOCK: tl.constexpr, PLACES: tl.constexpr, KINDS: tl.constexpr,
):  # fmt: skip
    """The table (offsets, heads) to (heads, KINDS, PLACES, PLACES): -inf for a key past its window.

    -100 is added where a shift brought the two tokens together, as in the original.
    """
    head, kind = tl.program_id(0) // KINDS, tl.program_id(0) % KINDS
    query, key = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    below = (query // WW)[:, None] - (key // WW)[None, :] + TH - 1
    beside = (query % WW)[:, None] - (key % WW)[None, :] + TW - 1
    real = (query < WH * WW)[:, None] & (key < WH * WW)[None, :]
    tile = tl.load(table + (below * (2 * TW - 1) + beside) * heads + head, mask=real, other=0.0).to(tl.float32)
    apart = ((query >= (WH - down) * WW)[:, None] != (key >= (WH - down) * WW)[None, :]) & (kind // 2 == 1)
    apart |= ((query % WW >= WW - right)[:, None] != (key % WW >= WW - right)[None, :]) & (kind % 2 == 1)
    tile = tl.where((key < WH * WW)[None, :], tl.where(apart, tile - 100.0, tile), float("-inf"))
    at = bias + tl.program_id(0) * (PLACES * PLACES) + query[:, None] * PLACES + key[None, :]
    tl.store(at, tile.to(bias.dtype.element_ty))


@triton.jit
def forward(
    qkv, bias, fill, temperature, out, total, heads, height, width, down, right, scale,
    WH: tl.constexpr, WW: tl.constexpr, D: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, PLACES: tl.constexpr, KINDS: tl.constexpr,
    FILLED: tl.constexpr, COSINE: tl.constexpr,
):  # fmt: skip
    """`total` windows of all images: qkv (B, N, 3C) to out (B, N, C)."""
    tiles: tl.constexpr = PLACES // BLOCK
    program = tl.program_id(0)
    head = program % heads  # heads first: what neighbours read at one time is next to each other
    query = program // heads % tiles * BLOCK + tl.arange(0, BLOCK)
    if COSINE:
        scale = tl.load(temperature + head).to(tl.float32)
    channels = heads * D
    for window in range(program // (heads * tiles), total, tl.num_programs(0) // (heads * tiles)):
        image = image_of(window, height, width, WH, WW)
        kind = kind_of(window, height, width, WH, WW, KINDS)
        base = qkv + image * height * width * 3 * channels + head * D
        at, there, _ = standing(window, query, height, width, down, right, WH, WW)
        q = rows(base, at, there, 3 * channels, D, BLOCK_D)  # a query that padding adds has an output that is cut off
        base, row = base + channels, fill + channels + head * D
        highest = tl.full((BLOCK,), float("-inf"), tl.float32)
        summed = tl.zeros((BLOCK,), tl.float32)
        mixed = tl.zeros((BLOCK, BLOCK_D), tl.float32)
        for tile in range(tiles):
            key = tile * BLOCK + tl.arange(0, BLOCK)
            key_at, key_there, missing = standing(window, key, height, width, down, right, WH, WW)
            k = filled(base, row, key_at, key_there, missing, 3 * channels, D, BLOCK_D, FILLED)
            v = filled(base + channels, row + channels, key_at, key_there, missing, 3 * channels, D, BLOCK_D, FILLED)
            scores = scored(q, k, scale, COSINE) + biased(bias, head, kind, query, key, PLACES, KINDS)
            higher = tl.maximum(highest, tl.max(scores, 1))
            weights, fade = tl.exp(scores - higher[:, None]), tl.exp(highest - higher)
            summed, highest = summed * fade + tl.sum(weights, 1), higher
            mixed = tl.dot(weights.to(v.dtype), v, mixed * fade[:, None], input_precision="ieee")
        mixed *= (1.0 / summed)[:, None]
        put(out + image * height * width * channels + head * D, mixed, at, there, channels, D, BLOCK_D)
