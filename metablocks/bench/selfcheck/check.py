"""What one check came to, and all of them together. Values: they neither measure nor print."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """What was measured, the rule it is held to, and whether it is kept: None where it cannot be tried here.

    `advice` says why it cannot, or after a failure what to do next. `values` are the numbers, units in their names.
    """

    measured: str
    rule: str
    passed: bool | None
    advice: str = ""
    values: dict[str, float] = field(default_factory=dict)
    key: str = ""
    seconds: float = 0.0
    first_try: str | None = None
    """What was measured at a first try that failed, where noise may have been the reason."""


@dataclass(frozen=True)
class Proof:
    """The checks on one device at one time, and under which conditions."""

    checks: tuple[Check, ...]
    device: str
    time: str
    seconds: float
    environment: dict[str, Any] = field(default_factory=dict)
    foreign_cpu_share: float | None = None
    """Of the processors, that other programs took meanwhile: the median over workers. 0 to 1."""
    kept: bool = False
    """Whether the verdict is in the cache folder."""

    @property
    def passed(self) -> bool:
        """Whether nothing failed. A check that cannot be tried here is no failure."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """The keys of the checks that failed."""
        return tuple(check.key for check in self.checks if check.passed is False)

    @property
    def absent(self) -> tuple[str, ...]:
        """The keys of the checks that could not be tried here."""
        return tuple(check.key for check in self.checks if check.passed is None)
