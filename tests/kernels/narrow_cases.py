"""Cases of a channel-MLP branch and how far its kernels are from the modules in float64: for interpreter and GPU."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metablocks.core.mixer import Statistics
from metablocks.parts.activation import Activation
from metablocks.parts.block import Branch, Residual
from metablocks.parts.mlp import ChannelMlp, MlpSizes
from metablocks.parts.norm import GroupNorm, LayerNorm


@dataclass(frozen=True)
class Case:
    """A branch; `known` has the norm be of a whole image, with statistics that something else has made."""

    width: int
    hidden: int
    images: int = 2
    tokens: int = 9
    activation: Activation = "gelu"
    known: bool = False
    bias: bool = True
    norm_bias: bool = True
    layer_scale: float | None = None
    res_scale: float | None = None
    drops: bool = False
    mean: float = 0.0

    def branch(self, dtype: torch.dtype, device: str = "cpu") -> Branch:
        """In evaluation mode, in training mode where it `drops`, with weights that are nowhere zero or one."""
        torch.manual_seed(3)
        norm = (GroupNorm if self.known else LayerNorm)(bias=self.norm_bias)
        residual = Residual(self.width, norm, "pre", self.layer_scale, self.res_scale, 0.0, self.drops)
        branch = Branch(residual, ChannelMlp(MlpSizes(self.width, self.hidden, self.activation, self.bias, 0.0)))
        for name, one in branch.named_parameters():
            deviation = one.shape[1] ** -0.5 if one.dim() == 2 else 0.3
            nn.init.normal_(one, 1.0 if "norm.weight" in name or "scale" in name else 0.0, deviation)
        branch.drop_rate.fill_(0.4)
        branch.op.fused = True
        return branch.to(device, dtype).train(self.drops)

    def inputs(self, dtype: torch.dtype, device: str = "cpu") -> list[Tensor]:
        """Tokens and, where they are known, mean and one over the deviation of each image: a little off those of the
        tokens, to tell the one from the other."""
        made = torch.Generator().manual_seed(4)
        x = torch.randn(self.images, self.tokens, self.width, generator=made) + self.mean
        given = [x.clone().to(device, dtype).requires_grad_()]
        if self.known:
            wide = torch.promote_types(dtype, torch.float32)
            off = 0.1 * torch.randn(2, self.images, generator=made)
            known = (x.mean((1, 2)) + off[0], (1 + off[1]) / x.std((1, 2)))
            given += [one.to(device, wide).requires_grad_() for one in known]
        return given


def run(branch: Branch, given: list[Tensor], whole: bool, above: float = 1.0) -> dict[str, Tensor]:
    """The output and every gradient, by the kernels or as modules, for a normal gradient times `above`; the same images
    drop their path in every call."""
    torch.manual_seed(0)
    known: Statistics | None = (given[1], given[2]) if len(given) > 1 else None
    out = branch.taken_in(given[0], known=known)[0] if whole else branch(given[0], known=known)
    drawn = torch.randn(out.shape, generator=torch.Generator().manual_seed(5)) * above
    weights = dict(branch.named_parameters())
    made = torch.autograd.grad(out, [*given, *weights.values()], drawn.to(out))
    names = ["x", "mean", "inverse"][: len(given)] + list(weights)
    return {"output": out.detach(), **dict(zip(names, made, strict=True))}


def errors(case: Case, dtype: torch.dtype, device: str = "cpu") -> dict[str, float]:
    """Largest difference to the modules in float64, of the output and of every gradient, over the largest value, but
    over what its sum comes to at least, as sums may cancel."""
    branch, given = case.branch(dtype, device), case.inputs(dtype, device)
    exact = [one.detach().double().requires_grad_() for one in given]
    double, to_normed = copy.deepcopy(branch).double(), []
    double.op.fc1.register_full_backward_hook(lambda _, made, __: to_normed.append(made[0]))
    goals = run(double, exact, whole=False)
    size = float(goals["x"].square().mean().sqrt())
    least = {name: max(1.0, size * (given[0].numel() / goal.numel()) ** 0.5) for name, goal in goals.items()}
    least |= _of_statistics(exact, to_normed[0] * double.norm.weight.detach())
    return {
        name: float((found.double() - goals[name]).abs().max() / goals[name].abs().max().clamp_min(least[name]))
        for name, found in run(branch, given, whole=True).items()
    }


def _of_statistics(exact: list[Tensor], to_normed: Tensor) -> dict[str, float]:
    """What the terms of the gradients of known statistics come to with random signs."""
    if len(exact) == 1:
        return {}
    x, mean, inverse = (one.detach() for one in exact)
    terms = {"mean": to_normed * inverse[:, None, None], "inverse": to_normed * (x - mean[:, None, None])}
    return {name: float(made.square().sum((1, 2)).max().sqrt()) for name, made in terms.items()}


STAR = "star_relu"
CASES = {
    "Swin-T": Case(96, 384),
    "Swin-B": Case(128, 512, tokens=70),
    "CAFormer": Case(64, 256, activation=STAR, bias=False, norm_bias=False),
    "PoolFormer": Case(64, 256, known=True, layer_scale=0.5, drops=True, images=3),
    "PoolFormer, wide": Case(128, 512, 3, 50, known=True, layer_scale=0.5, drops=True),
    "all scales": Case(40, 96, 3, 50, layer_scale=0.5, res_scale=0.5, drops=True),
    "squared ReLU, no bias": Case(24, 32, activation="squared_relu", bias=False, known=True, norm_bias=False),
    "one token": Case(8, 32, 1, 1, activation=STAR, res_scale=1.0),
    "off zero": Case(64, 64, mean=8.0),
}
