"""What flows between blocks, in plain integers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Tokens of one image: `prefix` tokens (class, registers) first, then `height` x `width` patches, row by row.

    `kept` is the number of patches that are there, where some were dropped (He et al. 2021, arXiv:2111.06377,
    section 3); None where all are.
    """

    height: int
    width: int
    prefix: int = 0
    kept: int | None = None

    @property
    def patches(self) -> int:
        return self.height * self.width if self.kept is None else self.kept

    @property
    def tokens(self) -> int:
        return self.prefix + self.patches

    @property
    def whole(self) -> bool:
        """Every patch is there, in its place."""
        return self.kept is None

    def __str__(self) -> str:
        text = f"{self.height} x {self.width}"
        if not self.whole:
            text = f"{self.kept} of {text}"
        return f"{self.prefix} + {text}" if self.prefix else text
