"""Reduce on plateau: a multiplier per trial that shrinks when its validation loss stops improving.

Pure functions on a state {factor, best: (K,) float64; bad, cooldown: (K,) int64}, one row a trial.
"""

from __future__ import annotations

import torch
from torch import Tensor

State = dict[str, Tensor]
Number = float | Tensor


def init(k: int, device: torch.device | str | None = None) -> State:
    """The state of K trials before the first evaluation: factor 1."""
    return {
        "factor": torch.ones(k, dtype=torch.float64, device=device),
        "best": torch.full((k,), torch.inf, dtype=torch.float64, device=device),
        "bad": torch.zeros(k, dtype=torch.int64, device=device),
        "cooldown": torch.zeros(k, dtype=torch.int64, device=device),
    }


def observe(
    state: State, losses: Tensor, gamma: Number, patience: Number, cooldown: Number, threshold: Number
) -> State:
    """The state after an evaluation with ``losses`` (K,). Hyperparameters are floats or (K,); nothing is read back.

    After more than ``patience`` evaluations in a row without a loss below best − threshold · |best|, factor *= gamma and bad
    evaluations do not count for ``cooldown`` evaluations. A loss of NaN is a bad one. For losses that are not negative this
    is torch's ReduceLROnPlateau (mode "min", threshold_mode "rel", eps=0: torch's eps is a bound on the learning rate, which
    is not known here). torch multiplies negative ones by 1 − threshold too, and then takes a loss a little worse than the
    best for a better one.
    """
    losses = losses.to(torch.float64)
    best = state["best"]
    better = losses < torch.where(best < 0, best * (1 + threshold), best * (1 - threshold))
    cooling = state["cooldown"] > 0
    bad = torch.where(better | cooling, 0, state["bad"] + 1)
    fires = bad > patience
    rest = torch.as_tensor(cooldown, device=losses.device).to(torch.int64)
    return {
        "factor": torch.where(fires, state["factor"] * gamma, state["factor"]),
        "best": torch.where(better, losses, best),
        "bad": torch.where(fires, 0, bad),
        "cooldown": torch.where(fires, rest, state["cooldown"] - cooling.to(torch.int64)),
    }
