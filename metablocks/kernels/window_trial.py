"""Window attention on its kernels where these have shown that they are right and pay, and on its twin elsewhere.

A variant of a kernel is tried on its first call on a GPU: two images of random numbers against the twin in float64,
then both are timed on some of the images of that call. What is wrong, raises or is slower does not run, and a warning
says so once. `METABLOCKS_TRIAL=off` lets kernels run untried, for checks of their own. Letters as in `window_twin`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from metablocks.kernels import trial, window_twin
from metablocks.kernels.window_layout import Windows

Given = tuple[Tensor, Tensor, Tensor | None, Tensor | None, Windows, float]
"""qkv, table, fill, temperature, windows, scale"""
IMAGES = 32
"""Images that the twin has at a time, because its scores are in memory, and that both are timed on."""

PASSES = (
    ("output",),
    ("gradient of qkv", "gradient of the bias", "gradient of padding", "gradient of the temperature"),
)


def attention(given: Given) -> Tensor:
    """(B, N, C), of contiguous tensors for which there is a kernel."""
    return _kernel(given, None)[0] if _proven("forward", given, None) else twin_attention(given)


def gradients(grad: Tensor, given: Given) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of qkv, table, fill and temperature."""
    made = _kernel(given, grad) if _proven("backward", given, grad) else twin_gradients(grad, given)
    return made[0], made[1], made[2], made[3]


def twin_attention(given: Given) -> Tensor:
    """The twin, some images at a time."""
    parts = given[0].split(IMAGES)
    return torch.cat([window_twin.attention(part, *given[1:]) for part in parts])


def twin_gradients(grad: Tensor, given: Given) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of the twin, some images at a time; sums over images in fp32 at least."""
    parts = zip(grad.split(IMAGES), given[0].split(IMAGES), strict=True)
    maps, tables, fills, warmths = zip(
        *(window_twin.gradients(one, part, *given[1:]) for one, part in parts), strict=True
    )
    return torch.cat(maps), _summed(tables), _summed(fills), _summed(warmths)


def _summed(parts: Sequence[Tensor]) -> Tensor:
    """In fp32 at least."""
    wide = torch.promote_types(parts[0].dtype, torch.float32)
    return torch.stack([part.to(wide) for part in parts]).sum(0).to(parts[0].dtype)


def _proven(which: str, given: Given, grad: Tensor | None) -> bool:
    """Whether the kernel runs. In Triton's interpreter it does: that is what it is for."""
    qkv = given[0]
    if trial.off(qkv):
        return True
    return qkv.numel() > 0 and kernel_wins(which, given, grad)  # of nothing there is nothing to learn


def kernel_wins(which: str, given: Given, grad: Tensor | None) -> bool:
    """Whether the kernel of a pass, `forward` or `backward`, is right and no slower than the twin where `given` is."""
    qkv, windows = given[0], given[4]
    some: Given = (qkv[:IMAGES].contiguous(), *given[1:])
    above = None if grad is None else grad[:IMAGES].contiguous()
    calls = {"kernel": partial(_kernel, some, above), "twin": partial(_twin, some, above)}
    found = trial.verdict(_key(which, given), calls, qkv.device, lambda _: _wrong(given, grad))
    if found.chosen != "kernel":
        kind = f"{' x '.join(map(str, windows.window))}, head_dim {_head_dim(given)}, {qkv.dtype}".replace("torch.", "")
        trial.warn(f"fused window attention, {which}, {kind}", found.why_not("kernel"))
    return found.chosen == "kernel"


def _kernel(given: Given, grad: Tensor | None) -> tuple[Tensor, ...]:
    from metablocks.kernels import window_launch  # brings in Triton

    return (window_launch.attention(*given),) if grad is None else window_launch.gradients(grad, *given)


def _twin(given: Given, grad: Tensor | None) -> tuple[Tensor, ...]:
    return (twin_attention(given),) if grad is None else twin_gradients(grad, given)


def _key(which: str, given: Given) -> str:
    """What kernels are compiled for, and the size of the work: batches that are alike share a verdict."""
    dtypes = [None if one is None else str(one.dtype) for one in given[:4]]
    return f"window_attention {which} {given[4].packed()} {_head_dim(given)} {dtypes} {trial.alike(len(given[0]))}"


def _head_dim(given: Given) -> int:
    return given[0].shape[2] // 3 // given[4].heads


def _wrong(given: Given, grad: Tensor | None) -> str:
    """What is far from the twin in float64 on two images of random numbers; nothing where all is close."""
    made = torch.Generator(given[0].device).manual_seed(0)

    def draw(like: Tensor, *shape: int) -> Tensor:
        return torch.randn(shape or like.shape, generator=made, device=like.device, dtype=like.dtype)

    qkv, table = draw(given[0], 2, *given[0].shape[1:]), draw(given[1])
    fill, temperature = (None if one is None else draw(one).abs() + 1 for one in given[2:4])
    above = None if grad is None else draw(grad, 2, *grad.shape[1:])
    found = _kernel((qkv, table, fill, temperature, *given[4:]), above)
    exact = (qkv.double(), table.double(), _double(fill), _double(temperature), *given[4:])
    for name, one, true in zip(PASSES[grad is not None], found, _twin(exact, _double(above)), strict=True):
        if why := trial.far(f"the {name}", one, true, qkv.dtype):
            return why
    return ""


def _double(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.double()
