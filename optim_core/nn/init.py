"""Initial weights from a generator of their own: the same seed gives the same weights, whatever ran before."""

from __future__ import annotations

import math

import torch
from torch import nn

from optim_core.nn.blocks import FeatureTokens, Positions
from optim_core.nn.categories import CategoryColumns
from optim_core.nn.recurrent import Recurrent


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Fill every parameter in module order, in place, on the CPU; buffers are left alone.

    Matrices and kernels: uniform in ±1/sqrt(fan_in), as torch initialises Linear and Conv2d. Biases likewise. Scales
    of norms 1, shifts 0. Positions: normal, deviation 0.02. Tokens and embeddings of categories: uniform in ±1/sqrt(width),
    but 0 for rare and unseen categories. GRU and LSTM: uniform in ±1/sqrt(width), as torch's.

    Raises TypeError for a module whose parameters have no rule here.
    """
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if not own:
            continue
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            for parameter in own:
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        elif isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, Positions):
            nn.init.normal_(module.weight, std=0.02, generator=generator)
        elif isinstance(module, FeatureTokens):
            bound = 1.0 / math.sqrt(module.weight.shape[1])
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif isinstance(module, Recurrent):
            bound = 1.0 / math.sqrt(module.width)
            for parameter in own:
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        elif isinstance(module, CategoryColumns):
            bound = 1.0 / math.sqrt(module.weight.shape[1])
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            # Where training has no rare category nothing is learned about it, and zeros say so.
            module.weight[module.rare_rows()] = 0.0
        else:
            raise TypeError(f"no rule to initialise {type(module).__name__}")
