"""Methods whose step has the same size for every weight."""

from __future__ import annotations

from torch import Tensor

from optim_core.transforms.base import Hyper, per_trial
from optim_core.transforms.decay import shrink


def lion(p: Tensor, g: Tensor, s: dict[str, Tensor], hyper: Hyper, t: int) -> tuple[Tensor, dict[str, Tensor]]:
    """p *= 1 − lr·wd; p −= lr·sign(β₁m + (1 − β₁)g); m = β₂m + (1 − β₂)g (Chen et al. 2023, arXiv 2302.06675)."""
    direction = (per_trial(hyper["beta1"], p) * s["mean"] + per_trial(1 - hyper["beta1"], p) * g).sign()
    mean = per_trial(hyper["beta2"], p) * s["mean"] + per_trial(1 - hyper["beta2"], p) * g
    return shrink(p, hyper) - per_trial(hyper["lr"], p) * direction, {"mean": mean}
