"""Window attention on its Triton kernels: tiles, programs, and memory for what they write.

Imported where a kernel runs, because it brings in Triton. Letters as in `window_layout`; B images.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from metablocks.kernels.choice import on_its_device
from metablocks.kernels.window_backward import whole
from metablocks.kernels.window_backward_tiles import keys, pairs, queries
from metablocks.kernels.window_forward import forward, spread
from metablocks.kernels.window_layout import Windows

PROGRAMS = 4  # a multiprocessor: about as many as stay on it, and then its share of bias stays in its cache
INTERPRETED_PROGRAMS = 8  # few, so that each of them walks several windows, as on a GPU


@on_its_device
def attention(
    qkv: Tensor, table: Tensor, fill: Tensor | None, temperature: Tensor | None, windows: Windows, scale: float
) -> Tensor:
    """As `window_twin.attention`, of contiguous tensors."""
    batch, tokens, packed = qkv.shape
    out = qkv.new_empty(batch, tokens, packed // 3)
    if not out.numel():
        return out
    fixed = _fixed(windows, packed // 3, fill, temperature)
    given = (qkv, _spread(table, windows), *_standing_in(qkv, fill, temperature), out)
    options = _options(qkv, "forward", fixed)
    forward[_programs(qkv, windows, windows.tiles)](*given, *_sizes(qkv, windows), scale, **fixed, **options)
    return out


@on_its_device
def gradients(
    grad: Tensor,
    qkv: Tensor,
    table: Tensor,
    fill: Tensor | None,
    temperature: Tensor | None,
    windows: Windows,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of qkv, of the table, of `fill` and of the temperature; one that is not there has no elements."""
    batch, _, packed = qkv.shape
    fixed, sizes, wide = _fixed(windows, packed // 3, fill, temperature), _sizes(qkv, windows), torch.float32
    programs, tiles = _programs(qkv, windows, windows.tiles), windows.tiles
    pairing = _programs(qkv, windows, tiles * tiles)
    walkers = pairing[0] // (windows.heads * tiles * tiles)
    grad_qkv = torch.empty_like(qkv)
    grad_spare = qkv.new_empty(batch, 0 if fill is None else windows.spare, 2, packed // 3)
    shares = qkv.new_empty(walkers, windows.heads, windows.places, windows.places, dtype=wide)
    warmth = qkv.new_empty(programs[0] // windows.heads, 0 if temperature is None else windows.heads, dtype=wide)
    given = (grad, qkv, _spread(table, windows), *_standing_in(qkv, fill, temperature))
    spared = (*sizes, windows.spare, scale)
    if tiles == 1:
        whole[programs](*given, grad_qkv, grad_spare, shares, warmth, *spared, **fixed, **_options(qkv, "whole", fixed))
    else:
        sums = qkv.new_empty(2, batch * windows.count, windows.heads, windows.places, dtype=wide)
        how = {name: fixed | _options(qkv, name, fixed) for name in ("queries", "keys", "pairs")}
        queries[programs](*given, grad_qkv, warmth, *sums, *sizes, scale, **how["queries"])
        keys[programs](*given, grad_qkv, grad_spare, *sums, *spared, **how["keys"])
        pairs[pairing](*given, shares, *sums, *sizes, scale, **how["pairs"])
    grad_fill = qkv.new_zeros(0) if fill is None else _of_fill(grad_spare).to(fill.dtype)
    of_temperature = warmth.sum(0).to(table.dtype if temperature is None else temperature.dtype)
    return grad_qkv, _of_table(shares, windows, table), grad_fill, of_temperature


def options(kernel: str, fixed: Mapping[str, Any], capability: int = 90) -> dict[str, int]:
    """How a variant of a kernel is compiled for a GPU of a compute capability (90 for 9.0), found by compiling it.

    Left to itself the assembler takes all registers there are. A second window on its way costs the backward pass more
    of them than there are where directions, the row of padding or the operands of matrix instructions (before sm_90)
    are in registers as well.
    """
    limit = {"forward": 168, "whole": 232}.get(kernel, 255)
    if kernel == "forward":
        return {"num_warps": 4, "num_stages": 2, "maxnreg": limit}
    ahead = capability >= 90 and not fixed["COSINE"] and not fixed["FILLED"]
    return {"num_warps": 8 if fixed["COSINE"] else 4, "num_stages": 2 if ahead else 1, "maxnreg": limit}


def _spread(table: Tensor, windows: Windows) -> Tensor:
    """(heads, kinds, places, places), what is added to scores: see `spread`."""
    kinds = _kinds(windows)
    bias = table.new_empty(windows.heads, kinds, windows.places, windows.places)
    fixed = _window(windows) | _table(windows) | _tiling(windows)
    spread[(windows.heads * kinds, windows.tiles, windows.tiles)](table, bias, windows.heads, *windows.shift, **fixed)
    return bias


def _of_table(shares: Tensor, windows: Windows, table: Tensor) -> Tensor:
    """Adds the shares (walkers, heads, places, places) of all programs up to rows of the table, in a fixed order."""
    (height, width), heads, length = windows.window, windows.heads, windows.length
    pairs = shares.sum(0)[:, :length, :length].reshape(heads, height, width, height, width)
    down = _diagonals(pairs.permute(0, 2, 4, 1, 3))  # (heads, w, w, offsets)
    both = _diagonals(down.permute(3, 0, 1, 2))  # (offsets down, heads, offsets across)
    made = torch.zeros_like(table)
    top, left = windows.table[0] - height, windows.table[1] - width
    rows = made.view(2 * windows.table[0] - 1, -1, heads)
    rows[top : top + 2 * height - 1, left : left + 2 * width - 1] = both.transpose(1, 2)
    return made


def _diagonals(pairs: Tensor) -> Tensor:
    """(..., N, N) to the sums (..., 2N - 1) of all pairs of one offset, first minus second, lowest first."""
    length = pairs.shape[-1]
    # each row is moved one further to the right, and then what was a diagonal is a column
    skewed = torch.nn.functional.pad(pairs.flip(-1), (0, length)).flatten(-2)[..., :-length]
    return skewed.unflatten(-1, (length, 2 * length - 1)).sum(-2)


def _of_fill(grad_spare: Tensor) -> Tensor:
    """(3C): no query that padding adds has an output, so it has no gradient either."""
    keys_and_values = grad_spare.sum((0, 1), dtype=torch.float32).flatten()
    return torch.nn.functional.pad(keys_and_values, (keys_and_values.numel() // 2, 0))


def _standing_in(qkv: Tensor, fill: Tensor | None, temperature: Tensor | None) -> tuple[Tensor, Tensor]:
    """The row of padding in the dtype of the map, and the temperature; for what is not there some pointer."""
    return qkv if fill is None else fill.to(qkv.dtype), qkv if temperature is None else temperature


def _sizes(qkv: Tensor, windows: Windows) -> tuple[int, ...]:
    return (qkv.shape[0] * windows.count, windows.heads, *windows.grid, *windows.shift)


def _window(windows: Windows) -> dict[str, int]:
    return {"WH": windows.window[0], "WW": windows.window[1]}


def _table(windows: Windows) -> dict[str, int]:
    return {"TH": windows.table[0], "TW": windows.table[1]}


def _tiling(windows: Windows) -> dict[str, int]:
    return {"BLOCK": windows.tile, "PLACES": windows.places, "KINDS": _kinds(windows)}


def _kinds(windows: Windows) -> int:
    """Ways in which seams cut a window: none, or those of `kind_of`."""
    return 4 if any(windows.shift) else 1


def _fixed(windows: Windows, width: int, fill: Tensor | None, temperature: Tensor | None) -> dict[str, Any]:
    """What each variant of a kernel is compiled for."""
    head_dim = width // windows.heads
    return _window(windows) | _tiling(windows) | {
        "D": head_dim,
        "BLOCK_D": max(16, triton.next_power_of_2(head_dim)),
        "FILLED": fill is not None and windows.spare > 0,
        "COSINE": temperature is not None,
    }  # fmt: skip


def _options(qkv: Tensor, kernel: str, fixed: dict[str, Any]) -> dict[str, int]:
    major, minor = torch.cuda.get_device_capability(qkv.device) if qkv.is_cuda else (9, 0)
    return options(kernel, fixed, 10 * major + minor)


def _programs(qkv: Tensor, windows: Windows, tiles: int) -> tuple[int]:
    """As many as stay on the chip, but a multiple of heads and `tiles`, and none without work.

    They depend on shapes and the device alone, and with them the order of every sum.
    """
    apart = windows.heads * tiles
    target = _multiprocessors(qkv.device) * PROGRAMS if qkv.is_cuda else INTERPRETED_PROGRAMS
    return (apart * max(1, min(qkv.shape[0] * windows.count, target // apart)),)


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count
