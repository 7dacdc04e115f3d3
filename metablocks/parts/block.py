"""The MetaFormer block: a token mixer and a channel MLP, each on a residual branch. The residual is written once.

Yu et al. 2022, arXiv:2111.11418, section 3.1, equations 1 and 2. LayerScale: Touvron et al. 2021, arXiv:2103.17239.
Res-scale: Shleifer et al. 2021, arXiv:2110.09456. Drop path: Huang et al. 2016, arXiv:1603.09382.
Letters: B batch, N tokens, C width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import Around, Mixer, Operation, Statistics, hooked
from metablocks.core.tracing import exporting
from metablocks.kernels import branch_trial
from metablocks.parts.norm import Norm, TokenGroupNorm

Order = Literal["pre", "post"]


@dataclass(frozen=True)
class Residual:
    """How a branch is added: the norm and its place, and the initial values of the two scales."""

    dim: int
    norm: Norm
    order: Order
    layer_scale: float | None
    res_scale: float | None
    dropout: float
    drops_path: bool


class Branch(nn.Module):
    """res_scale * x + drop_path(layer_scale * f(norm(x))), or norm(f(x)) in post order. Tokens (B, N, C) both ways."""

    drop_rate: Tensor

    def __init__(self, residual: Residual, op: nn.Module) -> None:
        super().__init__()
        self.pre = residual.order == "pre"
        self.drops_path = residual.drops_path
        self.norm = residual.norm.build(residual.dim)
        self.op = op
        self.dropout = nn.Dropout(residual.dropout)
        self.initial_scales = residual.layer_scale, residual.res_scale
        self.layer_scale = _scale(residual.dim, residual.layer_scale)
        self.res_scale = _scale(residual.dim, residual.res_scale)
        # a tensor, so that blocks that differ in their rate alone share one compiled graph
        self.register_buffer("drop_rate", torch.zeros((), device="cpu"), persistent=False)

    def reset_parameters(self) -> None:
        """Gives both scales their initial values."""
        for scale, value in zip((self.layer_scale, self.res_scale), self.initial_scales, strict=True):
            if scale is not None and value is not None:
                nn.init.constant_(scale, value)

    def forward(self, x: Tensor, *grid: Grid, known: Statistics | None = None) -> Tensor:
        """`known` statistics of x, where there are, spare the norm a look at it."""
        if known is not None:
            y = self.op.normed(x, self.norm, known, *grid)  # type: ignore[operator]
        else:
            y = self._of_normed(x, *grid) if self.pre else self.norm(self.op(x, *grid))
        y = self.dropout(y)
        if self.layer_scale is not None:
            y = y * self.layer_scale
        if self.drops_path and self.training:
            y = drop_path(y, self.drop_rate)
        return y + (x if self.res_scale is None else x * self.res_scale)

    def _of_normed(self, x: Tensor, *grid: Grid) -> Tensor:
        """op(norm(x)). In a graph a norm of one group goes by its statistics, of tokens first; and an operation that
        takes these is handed x as it is."""
        norm, op = self.norm, self.op
        graph = torch.compiler.is_compiling() and not exporting()
        if not graph or not isinstance(norm, TokenGroupNorm) or norm.groups > 1 or hooked(norm):
            return op(norm(x), *grid)
        known = norm.statistics(x)
        if isinstance(op, Operation) and op.takes_norm and not hooked(op):
            return op.normed(x, norm, known, *grid)
        return op(norm.by(x, known), *grid)

    def whole(self, x: Tensor, *grid: Grid, known: Statistics | None = None) -> tuple[Tensor, Statistics | None] | None:
        """The same by a kernel of the operation that takes in all of it, and the statistics of what comes out where it
        has made them: None where there is none."""
        op, norm = self.op, self.norm
        if not (self.pre and isinstance(op, Operation) and op.fused and op.takes_branch(x, norm, known)):
            return None
        if (self.training and self.dropout.p) or hooked(self, norm, op, self.dropout):
            return None
        if op.tried:
            trained = (x, *self.parameters())
            keeps = torch.is_grad_enabled() and any(one.requires_grad for one in trained)
            ways = (known is not None, keeps, torch.compiler.is_compiling())
            if not self.pays(tuple(x.shape), x.dtype, x.device, ways):
                return None
        return self.taken_in(x, *grid, known=known)

    def taken_in(self, x: Tensor, *grid: Grid, known: Statistics | None = None) -> tuple[Tensor, Statistics | None]:
        """By that kernel."""
        norm: Any = self.norm
        kept = kept_images(x, self.drop_rate) if self.drops_path and self.training else None
        around = Around(norm.weight, norm.bias, norm.eps, self.layer_scale, self.res_scale, kept, known)
        return self.op.branch(x, around, *grid)  # type: ignore[operator]

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # while a graph is traced, this runs
    def pays(
        self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, ways: tuple[bool, bool, bool]
    ) -> bool:
        """Whether that is surely faster than the modules. `ways`: statistics are known, there will be a backward pass,
        both are in a graph."""
        return branch_trial.kernel_wins(self, branch_trial.Call(shape, dtype, device, *ways))


class Block(nn.Module):
    """Mixer branch, then MLP branch. `grid` is the one that the block was planned for; it runs on others too."""

    def __init__(self, grid: Grid, mixer: Branch, mlp: Branch | None) -> None:
        super().__init__()
        self.grid = grid
        self.mixer = mixer
        self.mlp = mlp

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        grid = grid or self.grid
        # both branches have the same norm, so that what the first one knows of its result is for the second one
        x, known = self.mixer.whole(x, grid) or (self.mixer(x, grid), None)
        if self.mlp is None:
            return x
        known = None if hooked(self.mlp.norm, self.mlp.op) else known
        x, _ = self.mlp.whole(x, known=known) or (self.mlp(x, known=known), None)
        return x

    @property
    def kept_share(self) -> float:
        """Of the activations of its compiled graph, what the backward pass keeps on a GPU."""
        return self.mixer.op.kept_share if isinstance(self.mixer.op, Mixer) else 1.0

    def admit(self, grid: Grid) -> None:
        """Raises `Misfit` where the mixer cannot run on a grid."""
        if isinstance(self.mixer.op, Mixer):
            self.mixer.op.admit(grid)

    def set_drop_rate(self, rate: float) -> None:
        """Sets the chance with which an image skips each branch in training."""
        for branch in (self.mixer, self.mlp):
            if branch is not None:
                branch.drop_rate.fill_(rate)


def drop_path(x: Tensor, rate: Tensor) -> Tensor:
    """Zeroes whole images of (B, N, C) with chance `rate` and scales the others to keep the mean."""
    return x * kept_images(x, rate)[:, None, None].to(x.dtype)


def kept_images(x: Tensor, rate: Tensor) -> Tensor:
    """(B) 0 with chance `rate`, for the others what keeps the mean."""
    keep = 1 - rate.float()  # a small rate would be lost beside 1 in half precision
    return (torch.rand(x.shape[0], device=x.device) < keep) / keep


def _scale(dim: int, value: float | None) -> nn.Parameter | None:
    return None if value is None else nn.Parameter(torch.empty(dim))
