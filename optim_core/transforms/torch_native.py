"""Where torch.optim has the same method, its own class: fused or foreach, known to everyone. A test proves each equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Values = dict[str, Any]

_FUSED = {torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW}


def _plain(values: Values) -> Values:
    return dict(values)


def _betas(values: Values) -> Values:
    rest = {key: value for key, value in values.items() if key not in ("beta1", "beta2")}
    return {**rest, "betas": (values["beta1"], values["beta2"])}


def _adafactor(values: Values) -> Values:
    return {**values, "eps": (None, values["eps"])}


# Not NAdam: torch loads the product of its momenta in another precision than it was saved in.
# name → (class, catalogue's hyperparameters → the class's, switches)
CLASSES: dict[str, tuple[type[torch.optim.Optimizer], Callable[[Values], Values], Values]] = {
    "sgd": (torch.optim.SGD, _plain, {}),
    "momentum": (torch.optim.SGD, _plain, {}),
    "nesterov": (torch.optim.SGD, _plain, {"nesterov": True}),
    "adagrad": (torch.optim.Adagrad, _plain, {}),
    "rmsprop": (torch.optim.RMSprop, _plain, {}),
    "adadelta": (torch.optim.Adadelta, _plain, {}),
    "adam": (torch.optim.Adam, _betas, {}),
    "adamw": (torch.optim.AdamW, _betas, {}),
    "amsgrad": (torch.optim.Adam, _betas, {"amsgrad": True}),
    "adamax": (torch.optim.Adamax, _betas, {}),
    "radam": (torch.optim.RAdam, _betas, {}),
    "adafactor": (torch.optim.Adafactor, _adafactor, {}),
}


def native(name: str, groups: list[dict[str, Any]], values: Values) -> torch.optim.Optimizer | None:
    """torch's optimizer for these param groups, or None when torch has no such method (or cannot with these settings)."""
    if name not in CLASSES or (name == "nesterov" and values["momentum"] == 0):
        return None
    cls, translate, switches = CLASSES[name]
    weights = [p for group in groups for p in group["params"]]
    speed = {"fused": True} if cls in _FUSED and _fusable(weights) else {"foreach": True}
    return cls(groups, **translate(values), **switches, **speed)  # type: ignore[arg-type]


def _fusable(weights: list[nn.Parameter]) -> bool:
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in weights)
