"""Building blocks that run under ``torch.vmap`` with stacked weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Positions(nn.Module):
    """Adds a learned vector to each token: (batch, tokens, width) → the same. Of fewer tokens the first vectors."""

    weight_role = "embedding"

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight[: x.shape[-2]]


class FeatureTokens(nn.Module):
    """One token a feature: (batch, features) → (batch, features, width), as in FT-Transformer (arXiv 2106.11959)."""

    weight_role = "embedding"

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, width))
        self.bias = nn.Parameter(torch.empty(features, width))

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-1) * self.weight + self.bias


class ImageRows(nn.Module):
    """One token an image row: (batch, channels, height, width) → (batch, height, channels * width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Multi-head self-attention written out: the fused kernels have no rule for stacked weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) → the same."""
        shape = (*x.shape[:2], self.heads, -1)
        query, key, value = (layer(x).reshape(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        mixed = scores.softmax(dim=-1) @ value
        return self.out(mixed.transpose(1, 2).flatten(2))


class Residual(nn.Module):
    """``x + body(x)``, or ``shortcut(x) + body(x)`` where the shape changes."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut if shortcut is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.body(x)


class Mean(nn.Module):
    """Mean over the given axes."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=self.axes)
