"""Methods whose step has the same size for every weight."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from optim_core.transforms.base import Hyper, OwnState, Scalar
from optim_core.transforms.decay import decoupled, shrink


def lion_numbers(hyper: Hyper, t: int) -> dict[str, Scalar]:
    """Learning rate, both betas and their complements, decay."""
    b1, b2 = hyper["beta1"], hyper["beta2"]
    return {"lr": hyper["lr"], "keep1": b1, "new1": 1 - b1, "keep2": b2, "new2": 1 - b2, **decoupled(hyper)}


def lion(p: Tensor, g: Tensor, s: OwnState, n: Mapping[str, Scalar]) -> tuple[Tensor, OwnState]:
    """p *= 1 − lr·wd; p −= lr·sign(β₁m + (1 − β₁)g); m = β₂m + (1 − β₂)g (Chen et al. 2023, arXiv 2302.06675)."""
    direction = (n["keep1"] * s["mean"]).add_(n["new1"] * g).sign_()
    mean = (n["keep2"] * s["mean"]).add_(n["new2"] * g)
    return shrink(p, n) - direction.mul_(n["lr"]), {"mean": mean}
