"""Decides what to train next. Torch-free; ``plan`` is all that the rest of the house calls."""

from optim_core.search.planner import Finish, Plan, Wait, plan

__all__ = ["Finish", "Plan", "Wait", "plan"]
