"""The bench: a case goes to a fresh worker, is timed by one clock, and comes back as a record."""

from metablocks.bench.run import measure

__all__ = ["measure"]
