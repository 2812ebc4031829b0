"""Methods whose step has the same size for every weight."""

from __future__ import annotations

from torch import Tensor

from optim_core.transforms.base import Hyper, per_trial
from optim_core.transforms.decay import shrink


def lion(p: Tensor, g: Tensor, s: dict[str, Tensor], hyper: Hyper, t: int) -> tuple[Tensor, dict[str, Tensor]]:
    """p *= 1 − lr·wd; p −= lr·sign(β₁m + (1 − β₁)g); m = β₂m + (1 − β₂)g (Chen et al. 2023, arXiv 2302.06675)."""
    b1, b2 = per_trial(hyper["beta1"], p), per_trial(hyper["beta2"], p)
    direction = (b1 * s["mean"] + (1 - b1) * g).sign()
    return shrink(p, hyper) - per_trial(hyper["lr"], p) * direction, {"mean": b2 * s["mean"] + (1 - b2) * g}
