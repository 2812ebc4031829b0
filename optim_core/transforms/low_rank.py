"""APOLLO-Mini (Zhu et al. 2024, arXiv 2412.05270): Adam on one random mixture of a matrix's rows says how long a step is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from optim_core.alignment import product
from optim_core.counter import normal
from optim_core.spec.optimizers.roles import orthogonalised
from optim_core.transforms.adam import adamw, decoupled_numbers, moments_
from optim_core.transforms.arithmetic import add_, clamp_below_, norms
from optim_core.transforms.base import Hyper, Numbers, Own, Scalar, by_shape
from optim_core.transforms.decay import shrink_
from optim_core.transforms.lift import elementwise, of_each, per_tensor, split, stacking, zeros

# A step may be so much longer than the one before.
GROWTH = 1.01


def _wide(g: Tensor, lead: int) -> Tensor:
    """(…, A, B) with A ≤ B: a kernel as (out, in·h·w), tall matrices turned."""
    side = g.flatten(lead + 1)
    return side.mT if side.shape[-2] > side.shape[-1] else side


def apollo_start(p: Tensor, hyper: Hyper, lead: int) -> Own:
    """Adam's moments of a row as long as the longer side, and the length of the last step."""
    row = torch.zeros_like(_wide(p, lead)[..., :1, :], memory_format=torch.contiguous_format)
    return {"mean": row, "square": row.clone(), "length": p.new_zeros(p.shape[:lead] + (1,) * (p.ndim - lead))}


def apollo_numbers(hyper: Hyper, t: int) -> Numbers:
    """AdamW's, √scale, and which of the random mixtures it is the turn of."""
    epoch = (t - 1) // hyper["projection_gap"]
    return {**decoupled_numbers(hyper, t), "size": hyper["scale"] ** 0.5, "epoch": epoch * 1.0}


def apollo_rule(p: Tensor, g: Tensor, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """r = xᵀg, x normal; u = g·‖Adam's step for r‖/‖r‖, no more than 1.01 times as long as the last; p −= lr·√scale·u.

    x is drawn anew every ``projection_gap`` steps, the same for all weights with that shorter side: nothing of it is kept.
    As the authors' code: Adam's corrections come after the limit on growth.
    """
    wide = _wide(g, lead)
    of_side = {
        key: value.view(-1, 1, 1) if isinstance(value, Tensor) and value.ndim else value for key, value in n.items()
    }
    r = product(_mixture(n["epoch"], wide), wide)
    moments_(r, s, of_side)
    step = s["mean"] / s["square"].sqrt().add_(of_side["eps"])
    # The authors' 1e-8 guards ‖r‖ = 0.
    ratio = (norms(step, lead) / (norms(r, lead) + 1e-8)).view(s["length"].shape)
    length = norms(g, lead) * ratio
    limit = clamp_below_(length / (s["length"] + 1e-8), GROWTH) / GROWTH
    limit = torch.where(s["length"] > 0, limit, 1.0)
    s["length"].copy_(length / limit)
    add_(shrink_(p, n), g, ratio / limit * (n["down_root"] * n["size"]))


def _mixture(epoch: Scalar, wide: Tensor) -> Tensor:
    """Normal numbers, (1, A) or (K, 1, A)."""
    if isinstance(epoch, Tensor):
        numbers = normal(epoch.flatten().to(torch.int64), wide.shape[-2]).to(wide.dtype)
    else:
        numbers = _drawn(int(epoch), wide.shape[-2], wide.dtype, wide.device)
    return numbers.unsqueeze(-2).expand(*wide.shape[:-2], 1, wide.shape[-2])


@lru_cache(maxsize=16)
def _drawn(epoch: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # The same for hundreds of steps and all weights of one side.
    return normal(torch.tensor(epoch, device=device), count).to(dtype)


apollo_mini = split(
    per_tensor(of_each(apollo_start), apollo_numbers, stacking(apollo_rule), by_shape),
    elementwise(zeros("mean", "square"), decoupled_numbers, adamw),
    orthogonalised,
)
