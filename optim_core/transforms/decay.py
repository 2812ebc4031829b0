"""Weight decay in its two forms. They agree only for plain SGD (Loshchilov & Hutter 2019, arXiv 1711.05101)."""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.transforms.arithmetic import Array, add_
from optim_core.transforms.base import Hyper, Numbers, Scalar, is_zero


def coupled(hyper: Hyper) -> Numbers:
    """The number that ``with_l2`` needs."""
    return {"l2": hyper["weight_decay"]}


def decoupled(hyper: Hyper) -> Numbers:
    """The number that ``shrink_`` needs: 1 − lr·wd."""
    wd = hyper["weight_decay"]
    return {"keep": 1.0 if is_zero(wd) else 1 - hyper["lr"] * wd}


def with_l2(p: Array, g: Array, n: Mapping[str, Scalar]) -> Array:
    """Coupled: g + wd·p, the gradient of wd/2·‖p‖² (torch's convention). ``g`` itself where there is no decay."""
    return g if is_zero(n["l2"]) else add_(g.clone(), p, n["l2"])


def shrink_(p: Array, n: Mapping[str, Scalar]) -> Array:
    """Decoupled: p *= 1 − lr·wd, before the step, as torch.optim.AdamW does."""
    keep = n["keep"]
    return p if isinstance(keep, float) and keep == 1 else p.mul_(keep)
