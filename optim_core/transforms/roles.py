"""What each weight of a network is, which decides how methods for matrices treat it.

The rule, in this order: weights of embeddings (``nn.Embedding``, ``nn.EmbeddingBag``, or a module that says
``weight_role = "embedding"``) are *embedding*; weights of normalisation layers are *norm*; what has fewer than two axes is
*vector*; the last linear layer's matrix is *head*; everything else is *matrix*. A shared weight has the role it is met
in first.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from optim_core.spec.optimizers import Role

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def roles_of(model: nn.Module) -> dict[str, Role]:
    """Role of every parameter, by the names of ``model.named_parameters()``."""
    found: dict[str, Role] = {}
    last_linear: str | None = None
    modules = dict(model.named_modules())
    for name, p in model.named_parameters():
        owner = modules[name.rpartition(".")[0]]
        if isinstance(owner, _EMBEDDINGS) or getattr(owner, "weight_role", None) == "embedding":
            found[name] = "embedding"
        elif isinstance(owner, _NORMS):
            found[name] = "norm"
        elif p.ndim < 2:
            found[name] = "vector"
        else:
            found[name] = "matrix"
            if isinstance(owner, nn.Linear):
                last_linear = name
    if last_linear is not None:
        found[last_linear] = "head"
    return found


def decaying(model: nn.Module) -> set[str]:
    """Names of the weights that feel weight decay: two axes or more. Biases and gains of norms do not."""
    return {name for name, p in model.named_parameters() if p.ndim >= 2}
