"""The branch of a narrow channel MLP in Triton: norm, both layers and residual of some tokens in one kernel.

A program has a tile of tokens, all C of each, and walks the hidden layer in slices, so that this never leaves the chip.
`backward_tokens` and `backward_weights` compute the hidden layer again. The first walks it as `forward` does; a program
of the second has one slice of the weights, whose gradients it sums up over every so many tiles: programs that run
beside each other read the same tokens, for which all but one of them find L2. Nothing is added up in an order of
chance. Arithmetic in fp32, products of tiles in the dtype of the tokens. Two, three and four products of M C hidden;
2, 3 and 2 maps of M C moved: `narrow_twin.elements`. Letters as in `narrow_twin`; M tokens of all images.
"""

from __future__ import annotations

import triton
import triton.language as tl

from metablocks.kernels.window_tiles import put, rows


@triton.jit
def forward(
    x, mean, inverse, first, shift, second, factor, offset, skip, kept, out, total, tokens, eps,
    C: tl.constexpr, HIDDEN: tl.constexpr, BLOCK: tl.constexpr, BLOCK_C: tl.constexpr, SLICE: tl.constexpr,
    GELU: tl.constexpr, SHIFTS: tl.constexpr, FACTORS: tl.constexpr, OFFSETS: tl.constexpr, KNOWN: tl.constexpr,
    SKIPS: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    """x (M, C) to out (M, C)."""
    token, channel = tl.arange(0, BLOCK), tl.arange(0, BLOCK_C)
    start = tl.program_id(0) * BLOCK
    there, image = start + token < total, (start + token) // tokens
    map = start.to(tl.int64) * C
    tile = rows(x + map, token, there, C, C, BLOCK_C)
    low = standard(tile, mean, inverse, image, there, eps, C, BLOCK_C, KNOWN)[0].to(tile.dtype)
    made = tl.zeros([BLOCK, BLOCK_C], tl.float32)
    for at in range(0, HIDDEN, SLICE):
        hidden = expanded(low, first + at * C, shift + at, C, BLOCK_C, SLICE, SHIFTS)
        active = activated(hidden, GELU).to(tile.dtype)
        back = rows(second + at, channel, channel < C, HIDDEN, SLICE, SLICE)
        made = tl.dot(active, tl.trans(back), made, input_precision="ieee")
    made *= factors(factor, channel, C, BLOCK_C, FACTORS)
    if OFFSETS:
        made += vector(offset, channel, C, BLOCK_C)
    if DROPS:
        made *= tl.load(kept + image, mask=there, other=0.0).to(tl.float32)[:, None]
    if SKIPS:
        made += tile.to(tl.float32) * vector(skip, channel, C, BLOCK_C)
    else:
        made += tile.to(tl.float32)
    put(out + map, made, token, there, C, C, BLOCK_C)


@triton.jit
def backward_tokens(
    grad, x, mean, inverse, first, shift, second, factor, skip, kept, grad_x, along, total, tokens, eps,
    C: tl.constexpr, HIDDEN: tl.constexpr, BLOCK: tl.constexpr, BLOCK_C: tl.constexpr, SLICE: tl.constexpr,
    GELU: tl.constexpr, SHIFTS: tl.constexpr, FACTORS: tl.constexpr, KNOWN: tl.constexpr,
    SKIPS: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    """The gradient of x, (M, C), and where KNOWN, of each token what it adds to those of mean and inverse, (2, M)."""
    token, channel, unit = tl.arange(0, BLOCK), tl.arange(0, BLOCK_C), tl.arange(0, SLICE)
    start = tl.program_id(0) * BLOCK
    there, image = start + token < total, (start + token) // tokens
    map = start.to(tl.int64) * C
    tile, above = rows(x + map, token, there, C, C, BLOCK_C), rows(grad + map, token, there, C, C, BLOCK_C)
    low = standard(tile, mean, inverse, image, there, eps, C, BLOCK_C, KNOWN)[0].to(tile.dtype)
    scaled = (passed(above, kept, image, there, DROPS) * factors(factor, channel, C, BLOCK_C, FACTORS)).to(tile.dtype)
    made = tl.zeros([BLOCK, BLOCK_C], tl.float32)
    for at in range(0, HIDDEN, SLICE):
        hidden = expanded(low, first + at * C, shift + at, C, BLOCK_C, SLICE, SHIFTS)
        back = rows(second + at, channel, channel < C, HIDDEN, SLICE, SLICE)
        to_hidden = (tl.dot(scaled, back, input_precision="ieee") * sloped(hidden, GELU)).to(tile.dtype)
        made = tl.dot(to_hidden, rows(first + at * C, unit, unit < SLICE, C, C, BLOCK_C), made, input_precision="ieee")
    normed, strength = standard(tile, mean, inverse, image, there, eps, C, BLOCK_C, KNOWN)
    turned = tl.sum(made * normed, 1)
    if KNOWN:
        tl.store(along + start + token, -tl.sum(made, 1) * strength, mask=there)
        tl.store(along + total + start + token, turned / strength, mask=there)
    else:
        made -= (tl.sum(made, 1) / C)[:, None] + normed * (turned / C)[:, None]
    made *= strength[:, None]
    if SKIPS:
        made += above.to(tl.float32) * vector(skip, channel, C, BLOCK_C)
    else:
        made += above.to(tl.float32)
    put(grad_x + map, made, token, there, C, C, BLOCK_C)


@triton.jit
def backward_weights(
    grad, x, mean, inverse, first, shift, second, factor, kept, to_first, to_shift, to_second, to_offset,
    total, tokens, walkers, eps,
    C: tl.constexpr, HIDDEN: tl.constexpr, BLOCK: tl.constexpr, BLOCK_C: tl.constexpr, SLICE: tl.constexpr,
    GELU: tl.constexpr, SHIFTS: tl.constexpr, FACTORS: tl.constexpr, KNOWN: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    """What each walker has of the gradients of the weights: (walkers, HIDDEN, C) and (walkers, HIDDEN) of the first
    layer and its shift, (walkers, HIDDEN, C) and (walkers, C) of the second, before its factor, and the offset.

    The hidden layer lies on its side, (SLICE, BLOCK): so it is in registers as the products that sum up take it."""
    token, channel, unit = tl.arange(0, BLOCK), tl.arange(0, BLOCK_C), tl.arange(0, SLICE)
    at, walker = tl.program_id(0) % (HIDDEN // SLICE) * SLICE, tl.program_id(0) // (HIDDEN // SLICE)
    weight = rows(first + at * C, unit, unit < SLICE, C, C, BLOCK_C)
    back = tl.trans(rows(second + at, channel, channel < C, HIDDEN, SLICE, SLICE))
    of_first, of_shift = tl.zeros([SLICE, BLOCK_C], tl.float32), tl.zeros([SLICE], tl.float32)
    of_second, of_offset = tl.zeros([SLICE, BLOCK_C], tl.float32), tl.zeros([BLOCK_C], tl.float32)
    for step in range(walker, tl.cdiv(total, BLOCK), walkers):
        start = step * BLOCK
        there, image = start + token < total, (start + token) // tokens
        map = start.to(tl.int64) * C
        tile, above = rows(x + map, token, there, C, C, BLOCK_C), rows(grad + map, token, there, C, C, BLOCK_C)
        low = standard(tile, mean, inverse, image, there, eps, C, BLOCK_C, KNOWN)[0].to(tile.dtype)
        handed = passed(above, kept, image, there, DROPS)
        of_offset += tl.sum(handed, 0)
        handed = handed.to(tile.dtype)
        hidden = tl.dot(weight, tl.trans(low), input_precision="ieee")
        if SHIFTS:
            hidden += tl.load(shift + at + unit).to(tl.float32)[:, None]
        active = activated(hidden, GELU).to(tile.dtype)
        of_second = tl.dot(active, handed, of_second, input_precision="ieee")
        if FACTORS > 0:  # on the gradient, which a loss is scaled for, so that half precision loses nothing small
            handed = (handed.to(tl.float32) * factors(factor, channel, C, BLOCK_C, FACTORS)).to(tile.dtype)
        to_hidden = tl.dot(back, tl.trans(handed), input_precision="ieee") * sloped(hidden, GELU)
        of_shift += tl.sum(to_hidden, 1)
        of_first = tl.dot(to_hidden.to(tile.dtype), low, of_first, input_precision="ieee")
    mine = walker * HIDDEN + at
    put(to_first + mine * C, of_first, unit, unit < SLICE, C, C, BLOCK_C)
    tl.store(to_shift + mine + unit, of_shift)
    put(to_second + mine * C, of_second, unit, unit < SLICE, C, C, BLOCK_C)
    if at == 0:
        tl.store(to_offset + walker * C + channel, of_offset, mask=channel < C)


@triton.jit
def standard(tile, mean, inverse, image, there, eps, C: tl.constexpr, BLOCK_C: tl.constexpr, KNOWN: tl.constexpr):
    """Tokens less their mean over their deviation, in fp32, and one over that: their own, or where KNOWN those of their
    images."""
    wide = tile.to(tl.float32)
    centre = tl.load(mean + image, mask=there, other=0.0) if KNOWN else tl.sum(wide, 1) / C
    off = wide - centre[:, None]
    if BLOCK_C > C:
        off = tl.where((tl.arange(0, BLOCK_C) < C)[None, :], off, 0.0)
    if KNOWN:
        strength = tl.load(inverse + image, mask=there, other=1.0)
    else:
        strength = 1.0 / tl.sqrt(tl.sum(off * off, 1) / C + eps)
    return off * strength[:, None], strength


@triton.jit
def expanded(low, first, shift, C: tl.constexpr, BLOCK_C: tl.constexpr, SLICE: tl.constexpr, SHIFTS: tl.constexpr):
    """A slice of the hidden layer, in fp32, before the activation."""
    unit = tl.arange(0, SLICE)
    made = tl.dot(low, tl.trans(rows(first, unit, unit < SLICE, C, C, BLOCK_C)), input_precision="ieee")
    if SHIFTS:
        made += tl.load(shift + unit).to(tl.float32)[None, :]
    return made


@triton.jit
def activated(hidden, GELU: tl.constexpr):
    """Exact GELU, or ReLU squared."""
    if GELU:
        made = hidden * below(hidden)
    else:
        positive = tl.maximum(hidden, 0.0)
        made = positive * positive
    return made


@triton.jit
def sloped(hidden, GELU: tl.constexpr):
    """Its derivative."""
    if GELU:
        made = below(hidden) + hidden * 0.3989422804014327 * tl.exp(-0.5 * hidden * hidden)
    else:
        made = 2.0 * tl.maximum(hidden, 0.0)
    return made


@triton.jit
def below(value):
    """The share of a normal distribution that is below."""
    return 0.5 + 0.5 * tl.erf(value * 0.7071067811865476)


@triton.jit
def passed(above, kept, image, there, DROPS: tl.constexpr):
    """The gradient of what drop path lets through, in fp32."""
    handed = above.to(tl.float32)
    if DROPS:
        handed *= tl.load(kept + image, mask=there, other=0.0).to(tl.float32)[:, None]
    return handed


@triton.jit
def vector(base, channel, C: tl.constexpr, BLOCK_C: tl.constexpr):
    """A number of each channel, beside a tile."""
    found = tl.load(base + channel, mask=channel < C, other=0.0) if BLOCK_C > C else tl.load(base + channel)
    return found.to(tl.float32)[None, :]


@triton.jit
def factors(base, channel, C: tl.constexpr, BLOCK_C: tl.constexpr, FACTORS: tl.constexpr):
    """What the second layer is multiplied by: nothing, one number, or a number of each channel."""
    if FACTORS == 2:
        found = vector(base, channel, C, BLOCK_C)
    elif FACTORS == 1:  # as a row, which takes fewer registers than one number does
        found = tl.load(base + channel * 0).to(tl.float32)[None, :]
    else:
        found = 1.0
    return found
