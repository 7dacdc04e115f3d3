"""Window attention on its Triton kernels: tiles, programs, and memory for what they write.

Imported where a kernel runs, because it brings in Triton. Letters as in `window_layout`; B images.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from metablocks.kernels import window_backward as backwards
from metablocks.kernels.window_forward import forward
from metablocks.kernels.window_layout import TILE, WHOLE, Windows

INTERPRETED_PROGRAMS = 8  # few, so that each of them walks several windows, as on a GPU


def attention(
    qkv: Tensor, table: Tensor, fill: Tensor | None, temperature: Tensor | None, windows: Windows, scale: float
) -> Tensor:
    """As `window_twin.attention`, of contiguous tensors."""
    batch, tokens, packed = qkv.shape
    out = qkv.new_empty(batch, tokens, packed // 3)
    if not out.numel():
        return out
    rows, columns = tiles(windows)
    given = (qkv, table, *_standing_in(qkv, fill, temperature), out)
    fixed = _fixed(windows, packed // 3, fill, temperature)
    grid = _programs(qkv, windows, rows, 3)
    forward[grid](
        *given, *_sizes(qkv, windows), scale, BLOCK_M=rows, BLOCK_N=columns, **fixed, **_options(qkv, columns)
    )
    return out


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
    rows, columns = tiles(windows)
    programs = _programs(qkv, windows, rows, 2)
    bands = -(-windows.length // rows)  # tiles of queries, each a program
    walkers, whole, wide = programs[0] // (windows.heads * bands), windows.length <= WHOLE, torch.float32
    grad_qkv, grad_table = torch.empty_like(qkv), torch.zeros_like(table)
    spared = (batch, windows.spare if fill is not None else 0, 2, packed // 3)
    grad_spare = qkv.new_empty(spared, dtype=wide)
    shares = qkv.new_empty(walkers, windows.heads, bands * rows, columns, dtype=wide)
    warmth = qkv.new_empty(walkers * bands, 0 if temperature is None else windows.heads, dtype=wide)
    sums = qkv.new_empty(2, 0 if whole else batch * windows.count, windows.heads, bands * rows, dtype=wide)
    given = (grad, qkv, table, *_standing_in(qkv, fill, temperature), grad_qkv, grad_spare)
    sizes = (*_sizes(qkv, windows), windows.spare, scale)
    fixed = _fixed(windows, packed // 3, fill, temperature) | _options(qkv, columns, True)
    backwards.queries[programs](
        *given, shares, warmth, *sums, *sizes, BLOCK_M=rows, BLOCK_N=columns, WHOLE=whole, **fixed
    )
    if not whole:
        backwards.keys[programs](*given, *sums, *sizes, BLOCK_M=columns, BLOCK_N=rows, SUMS=bands * rows, **fixed)
    _sum_offsets(shares, grad_table, windows)
    grad_fill = qkv.new_zeros(0) if fill is None else _of_fill(grad_spare).to(fill.dtype)
    return grad_qkv, grad_table, grad_fill, warmth.sum(0).to(table.dtype if temperature is None else temperature.dtype)


def tiles(windows: Windows) -> tuple[int, int]:
    """Queries and keys of a tile of scores: powers of two, all keys, and all queries where a window is one tile."""
    columns = max(16, triton.next_power_of_2(windows.length))
    return (columns if windows.length <= WHOLE else TILE), columns


def options(columns: int, capability: int = 90, backward: bool = False) -> dict[str, int]:
    """How kernels whose tiles have so many keys are compiled for a GPU of a compute capability (90 for 9.0).

    Left to itself the assembler takes all registers there are. On sm_80, whose matrix instructions take their operands
    from registers, a second window on its way costs the backward pass more of them than there are.
    """
    if columns > WHOLE:
        return {"num_warps": 8, "num_stages": 1 if backward else 2}
    if backward:
        return {"num_warps": 4, "num_stages": 2 if capability >= 90 else 1, "maxnreg": 232}
    return {"num_warps": 4, "num_stages": 2, "maxnreg": 168}


def _sum_offsets(shares: Tensor, grad_table: Tensor, windows: Windows) -> None:
    """Adds the shares of all programs up to the rows of the table that windows of this size use."""
    offsets = (2 * windows.window[0] - 1) * (2 * windows.window[1] - 1)
    walkers, heads, rows, columns = shares.shape
    fixed = _window(windows) | {"ROWS": rows, "BLOCK_N": columns, "BLOCK_W": 1024 // columns}
    backwards.offsets[(heads, offsets)](shares, grad_table, walkers, heads, **fixed)


def _of_fill(grad_spare: Tensor) -> Tensor:
    """(3C): no query that padding adds has an output, so it has no gradient either."""
    keys_and_values = grad_spare.sum((0, 1)).flatten()
    return torch.nn.functional.pad(keys_and_values, (keys_and_values.numel() // 2, 0))


def _standing_in(qkv: Tensor, *given: Tensor | None) -> list[Tensor]:
    """Pointers that no kernel follows, for what is not there."""
    return [qkv if tensor is None else tensor for tensor in given]


def _sizes(qkv: Tensor, windows: Windows) -> tuple[int, ...]:
    return (qkv.shape[0] * windows.count, windows.heads, *windows.grid, *windows.shift)


def _window(windows: Windows) -> dict[str, Any]:
    return dict(zip(("WH", "WW", "TH", "TW"), (*windows.window, *windows.table), strict=True))


def _fixed(windows: Windows, width: int, fill: Tensor | None, temperature: Tensor | None) -> dict[str, Any]:
    """What each variant of a kernel is compiled for."""
    head_dim = width // windows.heads
    return _window(windows) | {
        "D": head_dim,
        "BLOCK_D": max(16, triton.next_power_of_2(head_dim)),
        "SHIFTED": any(windows.shift),
        "FILLED": fill is not None and windows.spare > 0,
        "COSINE": temperature is not None,
    }


def _options(qkv: Tensor, columns: int, backward: bool = False) -> dict[str, int]:
    major, minor = torch.cuda.get_device_capability(qkv.device) if qkv.is_cuda else (9, 0)
    return options(columns, 10 * major + minor, backward)


def _programs(qkv: Tensor, windows: Windows, rows: int, each: int) -> tuple[int]:
    """As many as stay on the chip, `each` a multiprocessor, but a multiple of heads and tiles, and none without work.

    They depend on shapes and the device alone, and with them the order of every sum.
    """
    apart = windows.heads * -(-windows.length // rows)
    target = _multiprocessors(qkv.device) * each if qkv.is_cuda else INTERPRETED_PROGRAMS
    return (apart * max(1, min(qkv.shape[0] * windows.count, target // apart)),)


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count
