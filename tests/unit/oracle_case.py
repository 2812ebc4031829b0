"""What a reference of an optimizer is made of: a trusted library's class, or a formula written out with scalars."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Make = Callable[[list[Tensor], dict[str, Any]], Any]
# Found without importing it.
TIMM = str(next(f for f in importlib.metadata.files("timm") or [] if f.name == "__init__.py").locate().parent)


def timm_file(name: str) -> types.ModuleType:
    """One file of timm.optim. The package itself imports torchvision, which has no build for every PyTorch."""
    for package, path in (("timm", TIMM), ("timm.optim", f"{TIMM}/optim")):
        if package not in sys.modules:
            module = types.ModuleType(package)
            module.__path__ = [path]
            sys.modules[package] = module
    return importlib.import_module(f"timm.optim.{name}")


@dataclass(frozen=True)
class Case:
    """``varied``: settings beside the defaults and the common variation. ``shapes``: weights, when not any will do.

    ``each``: the library decides per tensor what the paper decides for the model, so compare on one tensor.
    """

    make: Make
    varied: tuple[dict[str, Any], ...] = ()
    defaults: bool = True
    shapes: dict[str, tuple[int, ...]] = field(default_factory=lambda: {"matrix": (4, 3), "vector": (5,)})
    tolerance: float = 1e-9


def betas(h: dict[str, Any]) -> tuple[float, float]:
    return h["beta1"], h["beta2"]


def plain(h: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: h[name] for name in names}


def adam_like(cls: Any, **more: Any) -> Make:
    return lambda p, h: cls(p, betas=betas(h), **plain(h, "lr", "eps", "weight_decay"), **more)


class ByHand(torch.optim.Optimizer):
    """A formula written out: ``rule(p, g, state, settings, t)`` changes p in place."""

    def __init__(self, params: list[Tensor], h: dict[str, Any], rule: Callable[..., None]) -> None:
        super().__init__(params, dict(h))
        self.rule, self.t, self.h = rule, 0, h

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        self.t += 1
        for p in self.param_groups[0]["params"]:
            self.rule(p, p.grad, self.state[p], self.h, self.t)


def timm(file: str, cls: str, **more: Any) -> Make:
    return lambda p, h: getattr(timm_file(file), cls)(
        p, betas=betas(h), **plain(h, "lr", "eps", "weight_decay"), **more
    )
