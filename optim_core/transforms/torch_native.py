"""Where torch.optim's own class takes the fastest step, that class: fused, known to everyone. A test proves each equal.

Its foreach classes (RMSprop, Adadelta, Adamax, NAdam, RAdam, Adafactor) take as long as ours or up to three times as long
(``benchmarks/optimizer_step.py``), so those methods are not here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Values = dict[str, Any]

# Class → where its fused form exists.
_FUSED = {
    torch.optim.SGD: ("cpu", "cuda"),
    torch.optim.Adam: ("cpu", "cuda"),
    torch.optim.AdamW: ("cpu", "cuda"),
    torch.optim.Adagrad: ("cpu",),
}
# Fused forms refuse sparse gradients; these classes take them otherwise.
_TAKES_SPARSE = {torch.optim.SGD, torch.optim.Adagrad}


def _plain(values: Values) -> Values:
    return dict(values)


def _betas(values: Values) -> Values:
    rest = {key: value for key, value in values.items() if key not in ("beta1", "beta2")}
    return {**rest, "betas": (values["beta1"], values["beta2"])}


# name → (class, catalogue's hyperparameters → the class's, switches)
CLASSES: dict[str, tuple[type[torch.optim.Optimizer], Callable[[Values], Values], Values]] = {
    "sgd": (torch.optim.SGD, _plain, {}),
    "momentum": (torch.optim.SGD, _plain, {}),
    "nesterov": (torch.optim.SGD, _plain, {"nesterov": True}),
    "adagrad": (torch.optim.Adagrad, _plain, {}),
    "adam": (torch.optim.Adam, _betas, {}),
    "adamw": (torch.optim.AdamW, _betas, {}),
    "amsgrad": (torch.optim.Adam, _betas, {"amsgrad": True}),
}


def native(
    name: str, groups: list[dict[str, Any]], values: Values, sparse: bool = False
) -> torch.optim.Optimizer | None:
    """torch's optimizer for these param groups, or None when ours is to be taken (or torch cannot with these settings).

    ``sparse``: whether some gradients are known to be.
    """
    if name not in CLASSES or (name == "nesterov" and values["momentum"] == 0):
        return None
    cls, translate, switches = CLASSES[name]
    weights = [p for group in groups for p in group["params"]]
    fused = _fusable(cls, weights) and not (sparse and cls in _TAKES_SPARSE)
    speed = {"fused": True} if fused else {"foreach": True}
    return cls(groups, **translate(values), **switches, **speed)  # type: ignore[arg-type]


def _fusable(cls: type[torch.optim.Optimizer], weights: list[nn.Parameter]) -> bool:
    return all(p.device.type in _FUSED[cls] and p.is_floating_point() for p in weights)
