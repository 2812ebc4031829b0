"""Decides what to train next. Torch-free; ``plan`` and ``forecast`` are all that the rest of the house calls."""

from optim_core.search.forecast import forecast
from optim_core.search.planner import Finish, Plan, Wait, plan

__all__ = ["Finish", "Plan", "Wait", "forecast", "plan"]
