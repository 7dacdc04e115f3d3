"""What the device can do, measured on it: the roof that a network's parts are held against.

The best round counts and not the median: a roof is what can be reached at all, and whatever disturbs lowers it.
Williams et al. 2009, Roofline, doi:10.1145/1498765.1498785.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from metablocks.bench import clock
from metablocks.build import dtype_of, out_of_memory

SIDES = {"cpu": (256, 512, 1024, 2048), "cuda": (1024, 2048, 4096, 8192)}
"""Of square matrices. The largest is best where a dtype is fast, and takes forever where it is emulated."""
BATCHES = {"cpu": (1, 4), "cuda": (16, 128)}
"""Images of 64 x 64 tokens, 256 channels, that a convolution halves."""
COPIED = {"cpu": (1 << 28,), "cuda": (1 << 30,)}
"""Bytes of a copy: out of every cache."""
SLOW_S = 0.05  # of a product: a larger one is not tried
SECONDS = 0.25  # of rounds of one size
LEAST_ROUNDS = 3

Product = tuple[int, clock.Call]
"""FLOPs, and the call that does them."""


def peaks(device: str, dtypes: Sequence[str]) -> dict[str, float]:
    """`peak_flops_per_s_DTYPE` of matrix products and convolutions, `peak_copy_bytes_per_s` of a large copy.

    Of a copy, bytes read and bytes written. `amp_x` counts as x. A dtype that the device does not multiply is absent.
    Takes a second or two for each.
    """
    found = {}
    for dtype in dict.fromkeys(name.removeprefix("amp_") for name in dtypes):
        # all: they come from different libraries, of which one may know more of the device, or use TF32
        reached = [_best(kind, device, dtype_of(dtype)) for kind in (_matrices, _layer, _convolution)]
        if any(reached):
            found[f"peak_flops_per_s_{dtype}"] = max(one for one in reached if one)
    copied = _copy(device)
    return found if copied is None else found | {"peak_copy_bytes_per_s": copied}


@torch.inference_mode()
def _best(kind: Callable[[str, torch.dtype, int], Product], device: str, dtype: torch.dtype) -> float | None:
    """FLOP/s of the best round over sizes that the device does in time; None where it has no such product."""
    best = None
    for index in range(len(_of(BATCHES if kind is _convolution else SIDES, device))):
        try:
            flops, call = kind(device, dtype, index)
            spent = _fastest(device, call)
        except (RuntimeError, TypeError) as error:
            if best is None and out_of_memory(error):
                raise
            return best
        best = max(best or 0.0, flops / spent)
        if spent > SLOW_S:
            break
    return best


def _matrices(device: str, dtype: torch.dtype, index: int) -> Product:
    """A product of two square matrices."""
    side = _of(SIDES, device)[index]
    first, second = _normal((side, side), device, dtype), _normal((side, side), device, dtype)
    result = torch.empty_like(first)
    return 2 * side**3, lambda: torch.mm(first, second, out=result)


def _layer(device: str, dtype: torch.dtype, index: int) -> Product:
    """The same by oneDNN, which the products of a compiled network may go to; on a CPU alone."""
    side = _of(SIDES, device)[index]
    first, second = _normal((side, side), device, dtype), _normal((side, side), device, dtype)
    # one that is not there raises another error
    by_onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if by_onednn is None or device.startswith("cuda"):
        raise RuntimeError("no oneDNN")
    return 2 * side**3, lambda: by_onednn(first, second, None, "none", [], "")


def _convolution(device: str, dtype: torch.dtype, index: int) -> Product:
    """A convolution, of stride 2: for it there are no algorithms that do with fewer FLOPs."""
    batch = _of(BATCHES, device)[index]
    images, weight = _normal((batch, 256, 64, 64), device, dtype), _normal((256, 256, 3, 3), device, dtype)
    flops = 2 * batch * 32 * 32 * 256 * 256 * 9
    return flops, lambda: torch.conv2d(images, weight, stride=2, padding=1)


def _normal(shape: tuple[int, ...], device: str, dtype: torch.dtype) -> Tensor:
    # never zeros: multiplying those takes less power, and clocks stay higher
    return torch.randn(shape, device=device, dtype=torch.float32).to(dtype)


@torch.inference_mode()
def _copy(device: str) -> float | None:
    """Bytes read and written a second in the best round; None where there is no memory for it."""
    size = _of(COPIED, device)[0]
    try:
        source = _normal((1 << 18,), device, torch.float32).repeat(size // (1 << 20))
        target = torch.empty_like(source)
        return 2 * size / _fastest(device, lambda: target.copy_(source))
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return None


def _fastest(device: str, call: clock.Call) -> float:
    """Seconds of the fastest call, after one that warms up; where that is slow already, of one more."""
    timer = clock.Clock(device)
    least = LEAST_ROUNDS if timer.span(call) < SECONDS else 1
    spans: list[float] = []
    end = clock.now() + SECONDS
    while len(spans) < least or clock.now() < end:
        spans.append(timer.span(call))
    return min(spans)


def _of(sizes: Mapping[str, tuple[int, ...]], device: str) -> tuple[int, ...]:
    return sizes["cuda" if device.startswith("cuda") else "cpu"]
