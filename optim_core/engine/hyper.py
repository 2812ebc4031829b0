"""From configurations to the numbers that one step needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optim_core.schedules.shapes import stack_multipliers
from optim_core.spec.trial import Configuration


def decay_rule(model: nn.Module) -> Callable[[str], bool]:
    """Weights with two or more axes decay; biases and gains of norms do not (the rule of ``parameter_groups``)."""
    decaying = {name for name, p in model.named_parameters() if p.ndim >= 2}
    return decaying.__contains__


def clip_of(configuration: Configuration) -> float:
    """The trial's bound on the global gradient norm; infinity when it does not clip."""
    return configuration.techniques.get("clip_norm", float("inf"))


def numbers(configuration: Configuration) -> dict[str, float]:
    """Every hyperparameter as a float."""
    return {key: float(value) for key, value in configuration.hyperparameters.items()}


@dataclass(frozen=True)
class HyperTable:
    """Hyperparameters of K trials: constants as (K,) float64, the learning rate as a (T, K) table."""

    constants: dict[str, Tensor]
    rates: Tensor

    def at(self, step: int) -> dict[str, Tensor]:
        """Hyperparameters of ``step``, which counts from 0; each of shape (K,)."""
        return {**self.constants, "lr": self.rates[step]}


def hyper_table(configurations: Sequence[Configuration], horizon: int, device: torch.device) -> HyperTable:
    """Stack the hyperparameters of trials that share an optimizer."""
    rows = [numbers(c) for c in configurations]
    constants = {key: torch.tensor([r[key] for r in rows], dtype=torch.float64, device=device) for key in rows[0]}
    table = stack_multipliers([c.schedule for c in configurations], horizon).to(device)
    return HyperTable(constants, table * constants["lr"])
