"""The readable twin of the fused pooling branch, forwards and backwards: plain PyTorch, on any device, in any dtype.

PoolFormer: Yu et al. 2022, arXiv:2111.11418, section 3.2, equation 4, with a group norm of one group before it.
Letters: B images, N = H W tokens, C width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Sizes = tuple[int, int, int]
"""Height and width of the grid, side of the window."""
Scales = tuple[Tensor | None, Tensor | None, Tensor | None]
"""`scale` and `skip`, numbers of each channel, (C), and `kept`, one of each image, (B): what is not there is 1."""


def residual(x: Tensor, weight: Tensor, scales: Scales, eps: float, sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    """skip x + kept scale (pool(y) - y), (B, N, C), where y is x (B, N, C) normed by one mean and deviation an image.

    `weight` (C) is that of the norm; its bias cancels. Also mean and one over the deviation of x and of what is
    returned, (2, B) each, in fp32 at least.
    """
    scale, skip, kept = scales
    wide = torch.promote_types(x.dtype, torch.float32)
    centre = x.to(wide)
    before = statistics(centre, eps)
    strength = before[1] if kept is None else before[1] * kept
    turned = (pool(centre, sizes) - centre) * strength[:, None, None] * factor(weight, scale)
    out = (centre if skip is None else centre * skip) + turned
    out = out.to(torch.promote_types(x.dtype, weight.dtype))
    return out.contiguous(), before, statistics(out.to(wide), eps)


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, scales: Scales, statistics: tuple[Tensor, Tensor], sizes: Sizes
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of x, (B, N, C), from that of the output and `statistics` of x with the gradient that these have.

    Also what the gradients of the scales are sums of, of each image and channel, (B, C) in fp32 at least: of
    (transpose(grad) - grad) (x - mean), and of grad x, which has no elements without a `skip`. Pooling is linear, so
    <grad, pool(x) - x> is <transpose(grad) - grad, x>, and no constant is seen: the mean spares it a cancellation.
    """
    scale, skip, kept = scales
    before, to_before = statistics
    grad, centre = grad.to(before.dtype), x.to(before.dtype)
    turned = transpose(grad, sizes) - grad
    shares = (turned * (centre - before[0][:, None, None])).sum(1)
    passed = shares.new_empty(0) if skip is None else (grad * centre).sum(1)
    along = (shares * factor(weight, scale)).sum(1)
    strength = before[1] if kept is None else before[1] * kept
    through = torch.stack([to_before[0], to_before[1] + (along if kept is None else along * kept)])
    made = turned * factor(weight, scale) * strength[:, None, None] + (grad if skip is None else grad * skip)
    made = (made + through_statistics(through, centre, before)).to(x.dtype)
    return made.contiguous(), shares, passed


def statistics(x: Tensor, eps: float) -> Tensor:
    """(2, B): mean and one over the deviation of each image."""
    variance, mean = torch.var_mean(x, (1, 2), correction=0)
    return torch.stack([mean, (variance + eps).rsqrt()])


def through_statistics(grad: Tensor, x: Tensor, statistics: Tensor) -> Tensor:
    """(B, N, C): the gradient of x from that of its statistics, (2, B)."""
    to_mean, to_inverse = grad[0][:, None, None], grad[1][:, None, None]
    mean, inverse = statistics[0][:, None, None], statistics[1][:, None, None]
    return (to_mean - to_inverse * inverse**3 * (x - mean)) / x[0].numel()


def pool(x: Tensor, sizes: Sizes) -> Tensor:
    """(B, N, C) means over the window around each token; what is outside the grid does not count."""
    return _summed(x, sizes) / _counts(sizes, x.device)


def transpose(grad: Tensor, sizes: Sizes) -> Tensor:
    """The gradient of `pool`: each token hands its share to those that it is the mean of."""
    return _summed(grad / _counts(sizes, grad.device), sizes)


def factor(weight: Tensor, scale: Tensor | None) -> Tensor:
    """(C) what a channel is multiplied by, in fp32 at least."""
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
    return weight if scale is None else weight * scale


def _summed(x: Tensor, sizes: Sizes) -> Tensor:
    """Sums over the window. Pooling of torch is not differentiated: in channels last, that is wrong on some GPUs."""
    height, width, window = sizes
    image = x.unflatten(1, (height, width)).permute(0, 3, 1, 2)
    summed = F.avg_pool2d(image, window, stride=1, padding=window // 2, divisor_override=1)
    return summed.permute(0, 2, 3, 1).flatten(1, 2)


def _counts(sizes: Sizes, device: torch.device) -> Tensor:
    """(N, 1) tokens that are in the window around each of them."""
    reach = sizes[2] // 2
    rows, columns = (torch.arange(length, device=device) for length in sizes[:2])
    counts = [(at + reach).clamp(max=len(at) - 1) - (at - reach).clamp(min=0) + 1 for at in (rows, columns)]
    return (counts[0][:, None] * counts[1]).flatten()[:, None]
