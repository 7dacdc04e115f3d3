"""What every token mixer is: settings that resolve to sizes, and a module over tokens.

Letters: B batch, N tokens, C width.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from metablocks.core.grid import Grid
from metablocks.core.settings import Choice


class Misfit(Exception):
    """Settings that do not fit their grid or width: what is wrong, with the arithmetic, and the fix."""

    def __init__(self, message: str, help: str = "", key: str | None = None) -> None:
        super().__init__(message)
        self.message, self.help, self.key = message, help, key


class MixerSettings(Choice, kind="mixer"):
    """The keys of a mixer in the language, and what it needs of the tokens."""

    whole_grid: ClassVar[bool] = False
    """Every patch must be there, in its place: not for an encoder that drops tokens."""
    takes_prefix: ClassVar[bool] = True
    """Prefix tokens (class, registers) may stand before the patches."""

    def resolve(self, dim: int, grid: Grid) -> Any:
        """The sizes of this mixer at width `dim` on `grid`, a frozen dataclass; raises `Misfit` with the fix."""
        raise NotImplementedError


class Mixer(nn.Module):
    """A token mixer. `settings` is set by the finder in `metablocks.mixers`."""

    settings: ClassVar[type[MixerSettings]]
    no_decay: ClassVar[tuple[str, ...]] = ()
    """Names of parameters that train without weight decay, biases and vectors aside."""

    def __init__(self, sizes: Any) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Tokens (B, N, C) on `grid` to tokens of the same shape."""
        raise NotImplementedError


def split_heads(dim: int, heads: int | None, head_dim: int | None) -> tuple[int, int]:
    """(heads, head_dim) at width `dim` from the one of the two that is given; raises `Misfit`."""
    key, given = ("heads", heads) if heads else ("head_dim", head_dim)
    assert given is not None
    if dim % given:
        near = [size for size in range(1, dim + 1) if dim % size == 0]
        near = sorted(sorted(near, key=lambda size: abs(size - given))[:4])
        options = ", ".join(map(str, near))
        raise Misfit(f"{key} {given} does not divide the width {dim}", f"{key} may be {options}", key)
    return (heads, dim // heads) if heads else (dim // given, given)
