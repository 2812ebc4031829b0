"""Thousands of little networks at once: M of them as batched products, forward and backward written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

BETA1, BETA2, EPS, MOMENTUM = 0.9, 0.999, 1e-8, 0.9


@dataclass(frozen=True)
class Setting:
    """An optimizer with its settings: ``adamw`` or ``nesterov``, cosine over the whole run."""

    optimizer: str
    lr: float
    weight_decay: float = 0.01


def initial(m: int, widths: tuple[int, ...], generator: torch.Generator) -> list[Tensor]:
    """Weights (m, in, out) and biases (m, 1, out) in turn, He et al. 2015 for weights, 0 for biases."""
    made: list[Tensor] = []
    for fan_in, fan_out in pairwise(widths):
        made.append(torch.randn(m, fan_in, fan_out, generator=generator) * math.sqrt(2 / fan_in))
        made.append(torch.zeros(m, 1, fan_out))
    return made


def forward(parameters: list[Tensor], x: Tensor) -> list[Tensor]:
    """x (m, n, d) and every layer's output, the last (m, n, outputs)."""
    outputs = [x]
    for place in range(0, len(parameters), 2):
        z = torch.baddbmm(parameters[place + 1], outputs[-1], parameters[place])
        outputs.append(z if place == len(parameters) - 2 else z.relu_())
    return outputs


def gradients(parameters: list[Tensor], x: Tensor, y: Tensor) -> list[Tensor]:
    """Of the mean cross-entropy (y integer) or of half the mean squared error (y float), y (m, n)."""
    layers = forward(parameters, x)
    scores = layers[-1]
    if y.is_floating_point():
        delta = scores - y[:, :, None]
    else:
        delta = _softmax(scores)
        delta.scatter_add_(-1, y[:, :, None], torch.full_like(delta[..., :1], -1.0))
    delta = delta / x.shape[1]
    found: list[Tensor] = []
    for place in range(len(parameters) - 2, -1, -2):
        below = layers[place // 2]
        found += [delta.sum(1, keepdim=True), torch.bmm(below.mT, delta)]
        if place:
            delta = torch.bmm(delta, parameters[place].mT).mul_(below > 0)
    return found[::-1]


def _softmax(scores: Tensor) -> Tensor:
    """Over the last axis; of two classes by one sigmoid, several times faster on an axis so short."""
    if scores.shape[-1] != 2:
        return scores.softmax(-1)
    second = (scores[..., 1] - scores[..., 0]).sigmoid_()
    return torch.stack([1 - second, second], dim=-1)


def train(
    parameters: list[Tensor], batch: Callable[[int], tuple[Tensor, Tensor]], steps: int, setting: Setting
) -> list[Tensor]:
    """``steps`` steps from these parameters, which are left alone; ``batch(step)`` gives x (m, B, d), y (m, B)."""
    parameters = [p.clone() for p in parameters]
    first, second = [torch.zeros_like(p) for p in parameters], [torch.zeros_like(p) for p in parameters]
    for step in range(steps):
        lr = setting.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        slopes = gradients(parameters, *batch(step))
        if setting.optimizer == "adamw":
            torch._foreach_lerp_(first, slopes, 1 - BETA1)
            torch._foreach_mul_(second, BETA2)
            torch._foreach_addcmul_(second, slopes, slopes, 1 - BETA2)
            below = torch._foreach_sqrt(second)
            torch._foreach_div_(below, math.sqrt(1 - BETA2 ** (step + 1)))
            torch._foreach_add_(below, EPS)
            torch._foreach_mul_(parameters, 1 - lr * setting.weight_decay)
            torch._foreach_addcdiv_(parameters, first, below, -lr / (1 - BETA1 ** (step + 1)))
        else:
            torch._foreach_mul_(first, MOMENTUM)
            torch._foreach_add_(first, slopes)
            torch._foreach_add_(slopes, first, alpha=MOMENTUM)
            torch._foreach_add_(parameters, slopes, alpha=-lr)
    return parameters
