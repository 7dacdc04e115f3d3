"""What every token mixer is: settings that resolve to sizes, and a module over tokens; and what a branch may ask of it.

Letters: B batch, N tokens, C width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd, isqrt
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.settings import Choice, fault


class Misfit(Exception):  # noqa: N818
    """Settings that do not fit their width: what is wrong, with the arithmetic, and in `help` the fix.

    `key` is the setting at fault. `options` are other settings that would fit here, (key, value), nearest first; those
    that fit wherever the settings are used are named in the help: `use window 9, which tiles every stage`, where
    `tiles every stage` is `so`.
    """

    def __init__(
        self,
        message: str,
        help: str = "",
        key: str | None = None,
        options: Iterable[tuple[str, Any]] = (),
        so: str = "fits every stage",
    ) -> None:
        super().__init__(message)
        self.message, self.help, self.key, self.options, self.so = message, help, key, tuple(options), so


class GridMisfit(Misfit):
    """Settings that do not fit their grid: another size of the image may be a way out."""


class MixerSettings(Choice, kind="mixer"):
    """The keys of a mixer in the language, and what it needs of the tokens."""

    whole_grid: ClassVar[bool] = False
    """Every patch must be there, in its place: not for an encoder that drops tokens."""
    takes_prefix: ClassVar[bool] = True
    """Prefix tokens (class, registers) may stand before the patches."""

    def resolve(self, dim: int, grid: Grid) -> Any:
        """The sizes of this mixer at width `dim` on `grid`, a frozen dataclass; raises `Misfit` with the fix."""
        raise NotImplementedError


Statistics = tuple[Tensor, Tensor]
"""Mean of each image and one over its deviation, (B) each, in fp32 at least."""


@dataclass(frozen=True)
class Around:
    """What a branch is around its operation, skip x + kept scale op(norm(x)): what is not there is 1."""

    weight: Tensor
    """(C) of the norm, before its bias."""
    bias: Tensor | None
    eps: float
    scale: Tensor | None
    """(C) LayerScale."""
    skip: Tensor | None
    """(C) res-scale."""
    kept: Tensor | None
    """(B) drop path: 0 for an image that skips the branch."""
    known: Statistics | None = None
    """Of x, where something has made them: then the norm has one mean and one deviation an image."""


class Operation(nn.Module):
    """What stands on a residual branch: a token mixer, or the channel MLP."""

    fused: bool = False
    """Whether it takes fused kernels of ours, where it has any for its sizes, or what torch has. `build` says."""
    tried: ClassVar[bool] = False
    """Whether on a GPU `branch` is taken only where it is found faster than what is compiled of the modules."""

    takes_norm: ClassVar[bool] = False
    """Whether `normed` spares a normed map, so that the statistics of a norm of one group are made for it."""

    def normed(self, x: Tensor, norm: Any, known: Statistics, *grid: Grid) -> Tensor:
        """Of norm(x), for a norm of one group with these statistics."""
        raise NotImplementedError

    def takes_branch(self, x: Tensor, norm: nn.Module, known: Statistics | None) -> bool:  # noqa: ARG002
        """Whether, where it is fused, `branch` does all of a branch in pre order with this norm."""
        return False

    def branch(self, x: Tensor, around: Around, *grid: Grid) -> tuple[Tensor, Statistics | None]:
        """The branch with this operation, tokens (B, N, C) both ways, and the statistics of what comes out, for the
        next norm, where it has made them."""
        raise NotImplementedError

    def has_kernels(self, dtype: torch.dtype, device: torch.device) -> bool:  # noqa: ARG002
        """Where it is `tried`: whether `branch` has kernels that run there."""
        return False

    def words(self) -> list[str]:
        """Where it is `tried`: what tells it from others of its width."""
        return []


class Mixer(Operation):
    """A token mixer. `settings` is set by the finder in `metablocks.mixers`."""

    settings: ClassVar[type[MixerSettings]]
    no_decay: ClassVar[tuple[str, ...]] = ()
    """Names of parameters (`net.0.weight` too) that train without weight decay, biases and vectors aside."""

    kept_share: ClassVar[float] = 1.0
    """Of the activations of a compiled block, what its backward pass keeps on a GPU: less where some are cheap to make
    again."""

    def __init__(self, sizes: Any) -> None:
        super().__init__()
        self.sizes = sizes

    def admit(self, grid: Grid) -> None:
        """Raises `GridMisfit` where this mixer, as it was built, cannot run on a grid: it is asked before it does."""

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Tokens (B, N, C) on `grid` to tokens of the same shape."""
        raise NotImplementedError


def hooked(*modules: nn.Module) -> bool:
    """Whether someone looks at a module with a hook: then it has to run as a module, and not as a part of a kernel."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(one, kind) for one in modules for kind in kinds)


def split_heads(dim: int, heads: int | None, head_dim: int | None) -> tuple[int, int]:
    """(heads, head_dim) at width `dim` from the one of the two that is given; raises `Misfit`."""
    key, given = ("heads", heads) if heads else ("head_dim", head_dim)
    assert given is not None
    if dim % given:
        what = f"{heads} heads do" if heads else f"a head_dim of {head_dim} does"
        wrong = f"{what} not divide the width {dim}"
        raise Misfit(wrong, remainder(dim, given), key, near(key, given, dim), "divides every width")
    return (heads, dim // heads) if heads else (dim // given, given)


def remainder(whole: int, part: int) -> str:
    """`100 = 3 x 32 + 4`; nothing where the part is the larger one."""
    return f"{whole} = {whole // part} x {part} + {whole % part}" if part < whole else ""


def near(key: str, given: int, *lengths: int) -> list[tuple[str, int]]:
    """Options for `key`: the common divisors of `lengths` that are like `given`, nearest first."""
    whole = gcd(*lengths)
    small = [size for size in range(1, isqrt(whole) + 1) if whole % size == 0]
    like = [size for size in {*small, *(whole // size for size in small)} if given <= 2 * size <= 4 * given]
    return [(key, size) for size in sorted(like, key=lambda size: (abs(size - given), size))]


def check_heads(mixer: str, heads: int | None, head_dim: int | None, usual: int) -> None:
    """For a validator: raises a fault unless one of the two is given. `usual` is the head width that is proposed."""
    if heads is None and head_dim is None:
        wrong = f"{mixer} needs `head_dim` or `heads`"
        raise fault(wrong, f"add `head_dim: {usual}`, for one; the heads follow from the width")
    if heads is not None and head_dim is not None:
        raise fault(f"{mixer} takes `head_dim` or `heads`, not both", "the other follows from the width", "heads")
