"""What a network costs: parameters and multiply-accumulates, for each part and in all."""

from metablocks.costs.count import count
from metablocks.costs.nouns import CONVENTION, Cost, Costs, total

__all__ = ["CONVENTION", "Cost", "Costs", "count", "total"]
