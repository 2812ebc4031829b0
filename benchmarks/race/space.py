"""What rivals search: the optimizers of torch.optim that their documentations' PyTorch examples choose among.

The examples of Optuna and Ray Tune take Adam, RMSprop and SGD with a learning rate from 1e-5 to 1e-1 on a log scale. AdamW,
weight decay, momentum, betas and a cosine schedule are added, because Whichopt chooses among those too, and SGD may go to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

DEFAULT = "import torch\n\noptimizer = torch.optim.AdamW(model.parameters(), lr=0.001, fused=True)\n"


@dataclass(frozen=True)
class Number:
    """A range, searched on a log scale when ``log``."""

    low: float
    high: float
    log: bool


CHOICES: dict[str, list[str]] = {
    "optimizer": ["SGD", "Adam", "AdamW", "RMSprop"],
    "schedule": ["constant", "cosine"],
}
NUMBERS: dict[str, Number] = {
    "lr": Number(1e-5, 1e-1, log=True),
    "lr_sgd": Number(1e-5, 1.0, log=True),
    "momentum": Number(0.0, 0.99, log=False),
    "one_minus_beta1": Number(0.01, 0.3, log=True),
    "one_minus_beta2": Number(1e-4, 0.1, log=True),
    "weight_decay": Number(1e-6, 1e-1, log=True),
}
_ADAM = ("lr", "one_minus_beta1", "one_minus_beta2", "weight_decay")
# Which numbers each optimizer has.
USED: dict[str, tuple[str, ...]] = {
    "SGD": ("lr_sgd", "momentum", "weight_decay"),
    "Adam": _ADAM,
    "AdamW": _ADAM,
    "RMSprop": ("lr", "momentum", "weight_decay"),
}


class Asks(Protocol):
    """What an Optuna trial offers, and ``Drawn`` too."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...


class Drawn:
    """Independent uniform draws, with the face of an Optuna trial."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[int(self._rng.integers(len(choices)))]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if log:
            return float(np.exp(self._rng.uniform(np.log(low), np.log(high))))
        return float(self._rng.uniform(low, high))


def suggest(trial: Asks) -> dict[str, Any]:
    """A point of the space: choices first, then the numbers that the chosen optimizer has."""
    point: dict[str, Any] = {name: trial.suggest_categorical(name, list(values)) for name, values in CHOICES.items()}
    for name in USED[point["optimizer"]]:
        row = NUMBERS[name]
        point[name] = trial.suggest_float(name, row.low, row.high, log=row.log)
    return point


def source_of(point: dict[str, Any]) -> str:
    """Runnable source for ``train.train``; numbers that the optimizer has no use for may be there. torch's fused classes
    where there are any.
    """
    name = point["optimizer"]
    words = [f"lr={point['lr_sgd' if name == 'SGD' else 'lr']!r}", f"weight_decay={point['weight_decay']!r}"]
    if "momentum" in USED[name]:
        words.append(f"momentum={point['momentum']!r}")
    if "one_minus_beta1" in USED[name]:
        words.append(f"betas=({1 - point['one_minus_beta1']!r}, {1 - point['one_minus_beta2']!r})")
    if name != "RMSprop":
        words.append("fused=True")
    lines = ["import torch", "", f"optimizer = torch.optim.{name}(model.parameters(), {', '.join(words)})"]
    if point["schedule"] == "cosine":
        lines.append("scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total_steps)")
    return "\n".join(lines) + "\n"
