"""The tables of windows on a grid that nobody planned, as operations of torch.

A compiler sees the shapes of what they make and no more: to follow index arithmetic on sizes that are symbols takes it
minutes. Letters: H W grid, n windows of an image, L tokens of a window.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metablocks.parts import windows


@torch.library.custom_op("metablocks::window_places", mutates_args=())
def places(
    size: Sequence[int], window: Sequence[int], shift: Sequence[int], framed: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(n, L) which token stands in each place, and (H W) in which place each token stands.

    A map that is `framed` is shifted by a frame of padding, another is rolled.
    """
    lay = windows.framed_order if framed else windows.window_order
    order = lay(_pair(size), _pair(window), _pair(shift), device)
    return order, windows.token_order(order, size[0] * size[1])


@places.register_fake
def _(
    size: Sequence[int], window: Sequence[int], shift: Sequence[int], framed: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    before = [length - step if framed and step else 0 for length, step in zip(window, shift, strict=True)]
    count = windows.across((size[0] + before[0], size[1] + before[1]), _pair(window))
    shape = count[0] * count[1], window[0] * window[1]
    made = torch.empty(shape, dtype=torch.long, device=device)
    return made, torch.empty(size[0] * size[1], dtype=torch.long, device=device)


@torch.library.custom_op("metablocks::window_offsets", mutates_args=())
def offsets(window: Sequence[int], table: Sequence[int], device: torch.device) -> Tensor:
    """(L, L) rows of a table of the offsets in a window of the size `table`."""
    return windows.relative_index(_pair(window), _pair(table), device)


@offsets.register_fake
def _(window: Sequence[int], table: Sequence[int], device: torch.device) -> Tensor:  # noqa: ARG001  (as the above)
    length = window[0] * window[1]
    return torch.empty(length, length, dtype=torch.long, device=device)


@torch.library.custom_op("metablocks::window_mask", mutates_args=())
def mask(size: Sequence[int], window: Sequence[int], shift: Sequence[int], device: torch.device) -> Tensor:
    """(n, L, L) what is added to the scores of shifted windows."""
    return windows.shift_mask(_pair(size), _pair(window), _pair(shift), device)


@mask.register_fake
def _(size: Sequence[int], window: Sequence[int], shift: Sequence[int], device: torch.device) -> Tensor:  # noqa: ARG001
    count, length = windows.across(_pair(size), _pair(window)), window[0] * window[1]
    return torch.empty(count[0] * count[1], length, length, device=device)


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    first, second = numbers
    return first, second
