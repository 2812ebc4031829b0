"""From configurations to the numbers that one step needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optim_core.schedules.shapes import multipliers, stack_multipliers
from optim_core.spec.keys import derive_seed
from optim_core.spec.trial import Configuration
from optim_core.transforms.base import Hypers, Layout
from optim_core.transforms.groups import Groups
from optim_core.transforms.roles import decaying, roles_of
from optim_core.transforms.techniques import NEUTRAL


def decay_rule(model: nn.Module) -> Callable[[str], bool]:
    """Whether the weight of a name feels weight decay (the rule of ``roles.decaying``)."""
    return decaying(model).__contains__


def layout_of(model: nn.Module, groups: Groups, *, batched: bool) -> Layout:
    """The network's weights as a method sees them."""
    return Layout(batched, roles_of(model), groups.index)


def transform_techniques(configurations: Sequence[Configuration]) -> list[str]:
    """The techniques that any of the trials uses and that act inside the update."""
    return [name for name in NEUTRAL if any(name in c.techniques for c in configurations)]


def used(configurations: Sequence[Configuration], name: str) -> bool:
    """Whether any of the trials uses a technique."""
    return any(name in c.techniques for c in configurations)


def numbers(configuration: Configuration, seed: int, horizon: int, techniques: Sequence[str]) -> dict[str, float]:
    """Every hyperparameter as a float, and the values of ``techniques``, neutral where the trial does not use one."""
    found = {key: float(value) for key, value in configuration.hyperparameters.items()}
    found["base_lr"] = found["lr"]
    for name in techniques:
        neutral = NEUTRAL.get(name, 1.0)
        value = configuration.techniques.get(name, neutral)
        found[name] = float(round(value * horizon)) if name == "swa" and math.isfinite(value) else value
        if name == "gradient_noise":
            # Exact as a float.
            found["noise_key"] = float(derive_seed("noise", seed) % 2**52)
    return found


@dataclass(frozen=True)
class HyperTable:
    """Hyperparameters of K trials: constants as (K,) float64, the learning rate as a (T, K) table."""

    constants: dict[str, Tensor]
    rates: Tensor
    groups: Groups

    def at(self, step: int, factor: Tensor | None = None) -> Hypers:
        """Hyperparameters of every group at ``step``, which counts from 0; each of shape (K,).

        ``factor``: (K,), what the plateau schedule has made of the learning rates.
        """
        rates = self.rates[step] if factor is None else self.rates[step] * factor
        return self.groups.hypers({**self.constants, "lr": rates})


@dataclass(frozen=True)
class HyperRow:
    """The same for one trial, in plain floats; ``factors`` are the schedule's."""

    constants: dict[str, float]
    factors: list[float]
    groups: Groups

    def at(self, step: int, factor: float | None = None) -> Hypers:
        """See ``HyperTable``."""
        rate = self.constants["lr"] * self.factors[step]
        return self.groups.hypers({**self.constants, "lr": rate if factor is None else rate * factor})


def hyper_row(configuration: Configuration, seed: int, horizon: int, groups: Groups, names: Sequence[str]) -> HyperRow:
    """The hyperparameters of one trial, and its values of the techniques ``names``."""
    factors = multipliers(configuration.schedule, horizon).tolist()
    return HyperRow(numbers(configuration, seed, horizon, names), factors, groups)


def hyper_table(
    configurations: Sequence[Configuration],
    seeds: Sequence[int],
    horizon: int,
    groups: Groups,
    device: torch.device,
    names: Sequence[str],
) -> HyperTable:
    """Stack the hyperparameters of trials that share an optimizer, and their values of the techniques ``names``."""
    rows = [numbers(c, seed, horizon, names) for c, seed in zip(configurations, seeds, strict=True)]
    constants = {key: torch.tensor([r[key] for r in rows], dtype=torch.float64, device=device) for key in rows[0]}
    table = stack_multipliers([c.schedule for c in configurations], horizon).to(device)
    return HyperTable(constants, table.mul_(constants["lr"]), groups)
