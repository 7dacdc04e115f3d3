"""Attention by the kernel that is fastest for a shape where it runs: flash, cuDNN, memory-efficient or our one-tile.

None of them is always: on one GPU cuDNN's is ahead for long sequences and behind for short ones, on another never. So
each shape is tried once, forward, or forward and backward where gradients are kept, and `trial` remembers what came of
it. Only on CUDA, and where sizes are numbers: for symbolic ones, in an export and elsewhere torch chooses by itself.
`tile_attention` is tried where it fits and the network takes fused kernels, and has to be surely faster than torch's.
Letters: B batch, N tokens, H heads, D channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import has_static_value
from torch.nn.attention import SDPBackend, sdpa_kernel

from metablocks.core.tracing import exporting
from metablocks.kernels import tile_twin, trial
from metablocks.kernels.choice import why_not
from metablocks.kernels.tile_attention import tile_attention

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
REST = [*BACKENDS.values(), SDPBackend.MATH]
DEVICES = ("cuda",)
TILE = "tile"
OWN = "torch"  # its own choice, which falls back to plain operations
LIMITS = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}  # relative, of the norm of what is compared


def attention(packed: Tensor, scale: float, fused: bool = False) -> Tensor:
    """softmax(scale q k^T) v: packed (B, N, 3, H, D), queries, keys and values, to (B, N, H D).

    `fused`: also by our kernel, where it is the fastest.
    """
    name = OWN
    traced = exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if packed.device.type in DEVICES and not traced and all(has_static_value(size) for size in packed.shape):
        keeps = torch.is_grad_enabled() and packed.requires_grad
        name = best(tuple(packed.shape), scale, packed.dtype, packed.device, keeps, fused)
    return _attention(packed, scale, name, REST)


def _attention(packed: Tensor, scale: float, name: str, rest: Sequence[SDPBackend] = ()) -> Tensor:
    """By a backend; where it may not run, as cuDNN's where results are to be deterministic, by the first of the rest
    that may."""
    if name == TILE:
        return tile_attention(packed, scale)
    # to three of (B, H, N, D)
    query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
    if name == OWN:
        mixed = F.scaled_dot_product_attention(query, key, value, scale=scale)
    else:
        with sdpa_kernel([BACKENDS[name], *rest], set_priority=True):
            mixed = F.scaled_dot_product_attention(query, key, value, scale=scale)
    return mixed.transpose(1, 2).flatten(2)


@torch.compiler.assume_constant_result  # in a graph that is being traced too, this runs, and its result is a constant
def best(
    shape: tuple[int, ...], scale: float, dtype: torch.dtype, device: torch.device, keeps: bool, fused: bool
) -> str:
    """The name of what to take for `packed` of a shape; `keeps`: whether there will be a backward pass."""
    if dtype not in LIMITS or not _all_allowed():
        return OWN
    batch, tokens, _, heads, width = shape
    alike = 1 << max(batch - 1, 0).bit_length()  # batches up to twice as large share a verdict
    tile = (TILE,) if fused and tile_twin.fits(tokens, width, dtype) and not why_not(device) else ()
    more = (", backward" if keeps else "") + (", tile" if tile else "")
    key = f"attention {alike} x {heads} x {tokens} x {width}, {dtype}{more}"

    @cache
    def packed() -> Tensor:  # made only where nothing is remembered
        generator = torch.Generator(device).manual_seed(0)
        drawn = torch.randn(shape, generator=generator, device=device, dtype=dtype)
        return drawn.requires_grad_(keeps)

    def wrong(name: str) -> str:
        return _wrong(_outcome(packed(), partial(_attention, scale=scale, name=name)), packed(), scale)

    calls = {name: partial(_tried, packed, scale, name) for name in (*BACKENDS, *tile, OWN)}
    with trial.aside(device, True):
        return trial.choose(key, calls, device, wrong)


def _all_allowed() -> bool:
    """Whether nobody has switched a backend off, and means it."""
    allowed = torch.backends.cuda
    return allowed.flash_sdp_enabled() and allowed.cudnn_sdp_enabled() and allowed.mem_efficient_sdp_enabled()


def _tried(packed: Callable[[], Tensor], scale: float, name: str) -> list[Tensor]:
    return _outcome(packed(), partial(_attention, scale=scale, name=name))


def _outcome(packed: Tensor, attend: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """The output, and the gradient of `packed` where it has one."""
    out = attend(packed)
    gradients = torch.autograd.grad(out, packed, out.detach()) if packed.requires_grad else ()
    return [out.detach(), *gradients]


def _wrong(found: list[Tensor], packed: Tensor, scale: float) -> str:
    """Why an outcome is not right, as far as the first two images tell; nothing where it is."""
    few = packed[:2].detach().double().requires_grad_(packed.requires_grad)
    goals = _outcome(few, partial(tile_twin.attention, scale=scale))
    for what, one, goal in zip(("output", "gradient"), found, goals, strict=False):
        off = float((one[:2].double() - goal).norm() / goal.norm())
        if not off <= LIMITS[packed.dtype]:
            return f"its {what} is off by {off:.1e}"
    return ""
