"""Attention as CUDA has it, on fake tensors of a CPU: fake ones of CUDA have gradients only where torch has CUDA.

Letters: B batch, L queries, S keys, D channels of a head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

FLASH = (torch.float16, torch.bfloat16)
FLASH_HEAD_DIM = 256
ALIGNED = 8  # elements: rows of a bias that are no multiple of it are copied into some that are


def attention(  # noqa: PLR0913  (the operation's own)
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,  # noqa: ARG001  (no mixer's)
) -> Tensor:
    """(B, heads, L, D) attending to (B, heads, S, D), with a bias that broadcasts to (B, heads, L, S).

    The choice is torch's own: flash for half precision without a bias, else memory-efficient, which float64 lacks.
    """
    if attn_mask is None and query.dtype in FLASH and query.shape[-1] <= FLASH_HEAD_DIM:
        return _flash(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
    keeps = any(one.requires_grad for one in (query, key, value)) and torch.is_grad_enabled()
    bias = None
    if attn_mask is not None:
        bias = attn_mask.to(query.dtype)
        length = bias.shape[-1]
        if length % ALIGNED:
            bias = F.pad(bias, (0, ALIGNED - length % ALIGNED))[..., :length]
        bias = bias.expand(*query.shape[:3], key.shape[2])
    return _efficient(query, key, value, bias, keeps, dropout_p, is_causal, scale=scale)[0]


class CudaAttention(TorchFunctionMode):
    """While this lasts, attention is what CUDA has. `amp` is the dtype that autocast casts to."""

    def __init__(self, amp: torch.dtype | None) -> None:
        super().__init__()
        self.amp = amp

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention or args[0].dtype == torch.float64:
            return func(*args, **kwargs)
        if self.amp is not None:
            args = *(one.to(self.amp) for one in args[:3]), *args[3:]
        return attention(*args, **kwargs)


_flash = torch.ops.aten._scaled_dot_product_flash_attention
_efficient = torch.ops.aten._scaled_dot_product_efficient_attention
