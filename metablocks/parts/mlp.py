"""The channel MLP: two layers over C with an activation between. Vaswani et al. 2017, arXiv:1706.03762, section 3.3."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.mixer import Around, Misfit, Operation, Statistics, hooked
from metablocks.core.settings import MAX_SIZE, Positive, Rate, Settings, Size, fault
from metablocks.kernels import narrow_mlp
from metablocks.kernels.narrow_twin import Weights
from metablocks.parts.activation import Activation, activation, behind, kernel_takes
from metablocks.parts.norm import TokenGroupNorm


@dataclass(frozen=True)
class MlpSizes:
    dim: int
    hidden: int
    activation: Activation
    bias: bool
    dropout: float


class Mlp(Settings):
    label: ClassVar[str] = "mlp"

    ratio: Positive | None = Field(None, description="hidden width over C")
    hidden: Size | None = Field(None, description="hidden width, instead of `ratio`")
    activation: Activation = Field("gelu", description="between the two layers")
    bias: bool = Field(True, description="whether the layers have a bias")
    dropout: Rate = Field(0.0, description="rate after the activation and after the second layer")

    @model_validator(mode="after")
    def _one_of_two(self) -> Mlp:
        if (self.ratio is None) == (self.hidden is None):
            if self.ratio is None:
                raise fault("mlp needs `ratio` or `hidden`", "write `mlp: {ratio: 4}`")
            raise fault("mlp takes `ratio` or `hidden`, not both", "the other follows from the width", "hidden")
        return self

    def resolve(self, dim: int) -> MlpSizes:
        """The sizes at width `dim`; raises `Misfit` where the hidden width is no whole number."""
        hidden = self.hidden or hidden_width(self.ratio or 0, dim)
        return MlpSizes(dim, hidden, self.activation, self.bias, self.dropout)


def hidden_width(ratio: float, dim: int) -> int:
    """`ratio` times `dim`; raises `Misfit` where that is no whole number that can be built."""
    exact = round(ratio * dim, 6)  # 1.1 x 10 is 11, whatever a float makes of it
    wrong = f"a ratio of {ratio:,.10g} of width {dim} is {exact:,.10g} hidden channels"
    if exact > MAX_SIZE:
        raise Misfit(wrong, f"at most {MAX_SIZE:,}", "ratio")
    if exact != int(exact) or exact < 1:
        steps = {whole / part for part in (4, 2, 1) for whole in (floor(ratio * part), ceil(ratio * part)) if whole}
        options = [("ratio", step) for step in sorted(steps, key=lambda step: abs(step - ratio))]
        raise Misfit(wrong, "", "ratio", options, "gives whole numbers in every stage")
    return int(exact)


class ChannelMlp(Operation):
    """(B, N, C) to (B, N, C)."""

    tried = True

    def __init__(self, sizes: MlpSizes) -> None:
        super().__init__()
        self.fc1 = nn.Linear(sizes.dim, sizes.hidden, bias=sizes.bias)
        self.activation = activation(sizes.activation)
        self.fc2 = nn.Linear(sizes.hidden, sizes.dim, bias=sizes.bias)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self._from_hidden(self.fc1(x))

    def normed(self, x: Tensor, norm: TokenGroupNorm, known: Statistics, *grid: Grid) -> Tensor:  # noqa: ARG002
        """Of norm(x), for one group whose statistics are known. Compiled for inference, no normed map is stored: with r
        one over the deviation and m the mean of an image, fc1(norm(x)) is r (fc1' x - m slope) + shift, the end of a
        product. In training the backward pass would read more for it than a normed map takes."""
        # a layer that someone has put in the place of fc1, an adapter for one, is more than its weight
        plain = type(self.fc1) is nn.Linear and not hooked(self.fc1)
        if torch.is_grad_enabled() or not torch.compiler.is_compiling() or not plain:
            return self(norm.by(x, known))
        weight, slope, shift = self.folded(norm)
        # of each token: what is worked out of each image first, inductor of torch 2.11 makes kernels of
        mean, inverse = (one[:, None, None].expand(*x.shape[:2], 1) for one in known)
        hidden = (F.linear(x, weight) - mean * slope) * inverse + shift
        return self._from_hidden(hidden.to(x.dtype))

    def takes_branch(self, x: Tensor, norm: nn.Module, known: Statistics | None) -> bool:
        """Of tokens that are narrow, of a norm that a kernel can work out, and as the layers were built."""
        fc1, fc2 = self.fc1, self.fc2
        built = type(fc1) is type(fc2) is nn.Linear and not hooked(fc1, self.activation, fc2, self.dropout)
        if not built or not kernel_takes(self.activation) or (self.training and self.dropout.p):
            return False
        if not (type(norm) is nn.LayerNorm if known is None else isinstance(norm, TokenGroupNorm)):
            return False
        return norm.weight is not None and narrow_mlp.takes(x, fc1.weight, fc2.weight)

    def branch(self, x: Tensor, around: Around, *grid: Grid) -> tuple[Tensor, None]:  # noqa: ARG002  (of its kind)
        first, _, shift = self.folded(around)
        factor, offset = behind(self.activation, self.fc2.weight, self.fc2.bias)
        if around.scale is not None:
            factor = around.scale if factor is None else factor * around.scale
            offset = None if offset is None else offset * around.scale
        shifts = around.bias is not None or self.fc1.bias is not None
        weights = Weights(first, shift if shifts else None, self.fc2.weight, factor, offset)
        how = (around.eps, isinstance(self.activation, nn.GELU))
        return narrow_mlp.narrow_mlp(x, weights, (around.skip, around.kept), around.known, how), None

    def has_kernels(self, dtype: torch.dtype, device: torch.device) -> bool:
        return narrow_mlp.kernels_for(self.fc1.in_features, self.fc1.out_features, dtype, device)

    def words(self) -> list[str]:
        bias = [] if self.fc1.bias is None else ["bias"]
        return [f"{self.fc1.out_features} hidden", type(self.activation).__name__, *bias]

    def folded(self, norm: TokenGroupNorm | Around) -> tuple[Tensor, Tensor, Tensor]:
        """The first layer with a norm before it, made of weights alone: its weight times that of the norm (hidden, C),
        what that gives of ones, and what is added in the end, (hidden) each, in fp32 at least."""
        wide = torch.promote_types(self.fc1.weight.dtype, torch.float32)
        given = self.fc1.weight.to(wide)
        weight = (given * norm.weight).to(self.fc1.weight.dtype)
        slope = weight.to(wide).sum(1)  # of what is multiplied with, as it is rounded, so that the mean cancels
        shift = torch.zeros_like(slope) if norm.bias is None else (given * norm.bias).sum(1)
        return weight, slope, shift if self.fc1.bias is None else shift + self.fc1.bias

    def _from_hidden(self, hidden: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.dropout(self.activation(hidden))))
