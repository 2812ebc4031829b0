"""What the evidence says. Torch-free; ``recommend`` and ``standing`` are all that the rest of the house calls."""

from optim_core.recommend.recommender import recommend
from optim_core.recommend.standing import standing

__all__ = ["recommend", "standing"]
