"""Weight decay in its two forms. They agree only for plain SGD (Loshchilov & Hutter 2019, arXiv 1711.05101)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from optim_core.transforms.base import Hyper, Scalar


def coupled(hyper: Hyper) -> dict[str, Scalar]:
    """The number that ``add_l2`` needs."""
    return {"l2": hyper["weight_decay"]}


def decoupled(hyper: Hyper) -> dict[str, Scalar]:
    """The number that ``shrink`` needs: 1 − lr·wd."""
    wd = hyper["weight_decay"]
    return {"keep": 1.0 if isinstance(wd, float) and wd == 0 else 1 - hyper["lr"] * wd}


def add_l2(p: Tensor, g: Tensor, n: Mapping[str, Scalar]) -> Tensor:
    """Coupled: g + wd·p, the gradient of wd/2·‖p‖² (torch's convention)."""
    wd = n["l2"]
    return g if isinstance(wd, float) and wd == 0 else (wd * p).add_(g)


def shrink(p: Tensor, n: Mapping[str, Scalar]) -> Tensor:
    """Decoupled: p·(1 − lr·wd), applied before the step, as torch.optim.AdamW does."""
    keep = n["keep"]
    return p if isinstance(keep, float) and keep == 1 else p * keep
