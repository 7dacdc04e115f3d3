"""The shipped networks as a whole: held against what was published about them, and against a checkpoint."""

from metablocks.roster.figures import Figure, figures
from metablocks.roster.reproduce import Outcome, reproduce

__all__ = ["Figure", "Outcome", "figures", "reproduce"]
