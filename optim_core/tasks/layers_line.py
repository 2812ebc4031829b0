"""A network in a line, so that people see what was trained."""

from __future__ import annotations

from itertools import groupby

from torch import nn

# So many entries are shown, the rest counted.
MOST = 12


def layers_line(network: nn.Module) -> str:
    """``Linear 64→64, ReLU, Linear 64→10``: the layers in order of registration, equal neighbours once."""
    layers = [m for m in network.modules() if not any(True for _ in m.children()) and not isinstance(m, nn.Identity)]
    entries = [name if (n := len(list(same))) == 1 else f"{n} × {name}" for name, same in groupby(map(_name, layers))]
    if len(entries) > MOST:
        return f"{', '.join(entries[: MOST - 1])} … ({len(layers)} layers)"
    return ", ".join(entries)


def _name(module: nn.Module) -> str:
    kind = type(module).__name__
    if isinstance(module, nn.Embedding):
        return f"{kind} {module.num_embeddings}→{module.embedding_dim}"
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return f"{kind} {module.weight.shape[1]}→{module.weight.shape[0]}"
    return kind
