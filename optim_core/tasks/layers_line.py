"""A network in a line, so that people see what was trained."""

from __future__ import annotations

from torch import nn

from optim_core.networks import in_a_line


def layers_line(network: nn.Module) -> str:
    """``Linear 64→64, ReLU, Linear 64→10``: the layers in order of registration, equal neighbours once."""
    layers = [m for m in network.modules() if not any(True for _ in m.children()) and not isinstance(m, nn.Identity)]
    return in_a_line(map(_name, layers))


def _name(module: nn.Module) -> str:
    kind = type(module).__name__
    if isinstance(module, nn.Embedding):
        return f"{kind} {module.num_embeddings}→{module.embedding_dim}"
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return f"{kind} {module.weight.shape[1]}→{module.weight.shape[0]}"
    return kind
