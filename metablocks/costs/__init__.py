"""What a network costs: parameters, multiply-accumulates and activations, for each part and in all."""

from metablocks.costs.count import count, further_image
from metablocks.costs.nouns import ACTIVATIONS, CONVENTION, Cost, Costs, total

__all__ = ["ACTIVATIONS", "CONVENTION", "Cost", "Costs", "count", "further_image", "total"]
