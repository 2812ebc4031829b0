"""Weight decay in its two forms. They agree only for plain SGD (Loshchilov & Hutter 2019, arXiv 1711.05101)."""

from __future__ import annotations

from torch import Tensor

from optim_core.transforms.base import Hyper, per_trial


def add_l2(p: Tensor, g: Tensor, hyper: Hyper) -> Tensor:
    """Coupled: g + wd·p, the gradient of wd/2·‖p‖² (torch's convention)."""
    wd = hyper["weight_decay"]
    return g if isinstance(wd, float) and wd == 0 else g + per_trial(wd, p) * p


def shrink(p: Tensor, hyper: Hyper) -> Tensor:
    """Decoupled: p·(1 − lr·wd), applied before the step, as torch.optim.AdamW does."""
    wd = hyper["weight_decay"]
    return p if isinstance(wd, float) and wd == 0 else p * per_trial(1 - hyper["lr"] * wd, p)
