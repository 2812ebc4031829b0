"""What the evidence says. Torch-free; ``recommend`` is all that the rest of the house calls."""

from optim_core.recommend.recommender import recommend

__all__ = ["recommend"]
