"""The models on which steps are timed, and gradients for them; what a forward pass would cost is not the question."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Gradients = list[list[Tensor]]


class _Block(nn.Module):
    """A pre-norm block with its own weights for queries, keys, values and output, as trained models have them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)


def transformer() -> nn.Module:
    """About 200 thousand numbers in 69 tensors: calls cost more than arithmetic."""
    return nn.ModuleDict(
        {
            "tokens": nn.Embedding(64, 64),
            "blocks": nn.Sequential(*[_Block(64) for _ in range(4)]),
            "norm": nn.LayerNorm(64),
            "head": nn.Linear(64, 64),
        }
    )


def wide_mlp() -> nn.Module:
    """About 400 thousand numbers in 6 tensors: memory traffic costs more than calls."""
    return nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 640), nn.ReLU(), nn.Linear(640, 64))


def many_small() -> nn.Module:
    """27 thousand numbers in 200 tensors: calls are nearly all of it."""
    return nn.ModuleList([nn.Linear(16, 16) for _ in range(100)])


def six_large() -> nn.Module:
    """Six matrices of ten million numbers, 240 MB: far beyond any cache."""
    return nn.ModuleList([nn.Linear(2500, 4000, bias=False) for _ in range(6)])


def bfloat16() -> nn.Module:
    """``wide_mlp`` in bfloat16."""
    return wide_mlp().bfloat16()


def tiny() -> nn.Module:
    """A few hundred numbers, for the test of the benchmark itself."""
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "transformer": transformer,
    "wide_mlp": wide_mlp,
    "many_small": many_small,
    "six_large": six_large,
    "bfloat16": bfloat16,
}


def make(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """The model with weights that depend on nothing but ``seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def gradients(model: nn.Module, seed: int = 1) -> Gradients:
    """Four times one gradient per weight, shaped as it. They add up to zero: a lasting slope makes some methods diverge."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (
        [(torch.randn(p.shape, generator=generator) * 1e-2).to(p.dtype) for p in model.parameters()] for _ in range(2)
    )
    return [a, b, [-g for g in a], [-g for g in b]]


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """The param groups that every contender gets: weights with two or more axes decay, biases and norms do not."""
    weights = list(model.parameters())
    return [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
