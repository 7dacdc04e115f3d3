"""The readable twin of the fused pooling branch, and its gradients: plain PyTorch, on any device, in any dtype.

PoolFormer: Yu et al. 2022, arXiv:2111.11418, section 3.2, equation 4, with a group norm of one group before it.
Letters: B images, N = H W tokens, C width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Sizes = tuple[int, int, int]
"""Height and width of the grid, side of the window."""


def residual(  # noqa: PLR0913  (tensors that may not be there, one by one)
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    skip: Tensor | None,
    kept: Tensor | None,
    sizes: Sizes,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """skip x + kept scale (pool(y) - y), (B, N, C), where y is x (B, N, C) normed by one mean and deviation an image.

    `weight` is that of the norm, `scale` and `skip` are numbers of each channel, (C), `kept` of each image, (B); what is
    not there is 1. Also mean and one over the deviation of x and of what is returned, (2, B) each, in fp32 at least.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    before = statistics(x.to(wide), eps)
    factor = (before[1] if kept is None else before[1] * kept)[:, None, None] * _factor(weight, scale)
    centre = x.to(wide)
    out = (centre if skip is None else centre * skip) + factor * (pool(centre, sizes) - centre)
    out = out.to(torch.promote_types(x.dtype, weight.dtype))
    return out, before, statistics(out.to(wide), eps)


Maybe = Tensor | None
Saved = tuple[Tensor, Tensor, Maybe, Maybe, Maybe, Maybe, Tensor, Tensor, Tensor]
"""x, weight and bias of the norm, scale, skip and kept, and all that `residual` returned."""


def gradients(above: tuple[Tensor, Tensor, Tensor], saved: Saved, sizes: Sizes) -> tuple[Tensor | None, ...]:
    """Of x, weight, bias, scale, skip and kept, from those of what `residual` returned.

    Pooling is linear, so that one pooling of the gradient has them all: for the transpose, <grad, pool(x) - x> is
    <transpose(grad) - grad, x>.
    """
    x, weight, bias, scale, skip, kept, out, before, after = saved
    wide = torch.promote_types(x.dtype, torch.float32)
    x, grad = x.to(wide), above[0].to(wide) + _to_values(above[2], out.to(wide), after)
    grad = grad.to(out.dtype).to(wide)  # stored, because neighbours read it
    turned = transpose(grad, sizes) - grad
    shares = (turned * (x - before[0][:, None, None])).sum(1)  # (B, C); no sum of `turned` is seen, so no mean of x
    along = (shares * _factor(weight, scale)).sum(1)
    strength = before[1] if kept is None else before[1] * kept
    to_factor = (shares * strength[:, None]).sum(0)
    to_inverse = above[1][1] + (along if kept is None else along * kept)
    to_x = turned * _factor(weight, scale) * strength[:, None, None] + (grad if skip is None else grad * skip)
    to_x = to_x + _to_values(torch.stack([above[1][0], to_inverse]), x, before)
    return (
        to_x.to(saved[0].dtype),
        _as(weight, to_factor if scale is None else to_factor * scale),
        None if bias is None else torch.zeros_like(bias),
        _as(scale, to_factor * weight),
        _as(skip, (grad * x).sum((0, 1))),
        _as(kept, along * before[1]),
    )


def statistics(x: Tensor, eps: float) -> Tensor:
    """(2, B): mean and one over the deviation of each image."""
    variance, mean = torch.var_mean(x, (1, 2), correction=0)
    return torch.stack([mean, (variance + eps).rsqrt()])


def pool(x: Tensor, sizes: Sizes) -> Tensor:
    """(B, N, C) means over the window around each token; what is outside the grid does not count."""
    return _pooled(x, sizes, count_include_pad=False)


def transpose(grad: Tensor, sizes: Sizes) -> Tensor:
    """The gradient of `pool`: each token hands its share to those that it is the mean of."""
    height, width, window = sizes
    rows, columns = (_counts(length, window, grad.device) for length in (height, width))
    shares = grad.unflatten(1, (height, width)) / (rows[:, None, None] * columns[:, None])
    return _pooled(shares.flatten(1, 2), sizes, divisor_override=1)


def _pooled(x: Tensor, sizes: Sizes, **divided: int) -> Tensor:
    """Pooling of tokens forwards. That of torch backwards is wrong in channels last on CUDA in some versions."""
    height, width, window = sizes
    image = x.unflatten(1, (height, width)).permute(0, 3, 1, 2)
    return F.avg_pool2d(image, window, stride=1, padding=window // 2, **divided).permute(0, 2, 3, 1).flatten(1, 2)  # type: ignore[arg-type]


def _counts(length: int, window: int, device: torch.device) -> Tensor:
    """Tokens of an axis that are in the window around each of them."""
    at, reach = torch.arange(length, device=device), window // 2
    return (at + reach).clamp(max=length - 1) - (at - reach).clamp(min=0) + 1


def _factor(weight: Tensor, scale: Tensor | None) -> Tensor:
    return weight if scale is None else weight * scale.to(torch.promote_types(scale.dtype, torch.float32))


def _to_values(grad: Tensor, x: Tensor, statistics: Tensor) -> Tensor:
    """The gradient of x from those of its statistics."""
    (to_mean, to_inverse), (mean, inverse) = grad[..., None, None], statistics[..., None, None]
    return (to_mean - to_inverse * inverse**3 * (x - mean)) / x[0].numel()


def _as(like: Tensor | None, grad: Tensor) -> Tensor | None:
    return None if like is None else grad.to(like.dtype)
