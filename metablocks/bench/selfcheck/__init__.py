"""The bench proves itself: `metablocks bench --self-check`. What each check is for: `docs/self-check.md`.

Only running the checks needs torch: a verdict is looked up by workers, which have enough to do before they measure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metablocks.bench.selfcheck.check import Check, Proof
from metablocks.bench.selfcheck.verdict import last_told, last_verdict

if TYPE_CHECKING:
    from metablocks.bench.hand import Watch

__all__ = ["Check", "Proof", "check_all", "last_told", "last_verdict", "report_checks"]


def check_all(device: str = "cpu", watch: Watch = lambda phase: None) -> Proof:  # noqa: ARG005
    """Every check on this device; takes some minutes. The verdict is kept, and later records carry it.

    `watch` hears which check is on. Raises `MissingError` where the device is not there.
    """
    from metablocks.bench.selfcheck.checks import QUESTIONS, prove
    from metablocks.bench.selfcheck.lab import Lab
    from metablocks.bench.selfcheck.verdict import remember
    from metablocks.build import device_of

    device_of(device)
    return remember(prove(Lab(device, watch), QUESTIONS))


def report_checks(proof: Proof, as_json: bool = False) -> None:
    """Prints the checks, what is to be done, and the conditions: as a table for people, or as JSON."""
    from metablocks.bench.selfcheck.table import report

    report(proof, as_json)
