"""Spec to plan. Integers only, no tensors."""

from metablocks.plan.nets import plan
from metablocks.plan.nouns import BlockKind, BlockPlan, Part, Plan, StagePlan

__all__ = ["BlockKind", "BlockPlan", "Part", "Plan", "StagePlan", "plan"]
