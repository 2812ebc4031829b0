"""Param groups of a torch optimizer: weights that share a role, weight decay and a learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from optim_core.spec.optimizers import Role
from optim_core.transforms.groups import groups_of
from optim_core.transforms.roles import Network, checked_roles, decaying_by_role, role_by_shape

NamedParameters = Iterable[tuple[str, nn.Parameter]]
# Role, whether it decays, the multiple of the learning rate, the weight.
_Row = tuple[Role, bool, float, nn.Parameter]


def parameter_groups(
    named: NamedParameters, weight_decay: float, roles: Mapping[str, Role] | None = None
) -> list[dict[str, Any]]:
    """Param groups by role and by whether weight decay acts.

    Without a model, a weight with two axes or more is a matrix, else a vector; ``roles`` says otherwise by name.
    """
    pairs = list(named)
    given = checked_roles(roles or {}, {name: name for name, _ in pairs})
    rows: list[_Row] = []
    for name, p in pairs:
        role = given.get(name) or role_by_shape(p)
        rows.append((role, decaying_by_role(role, p), 1.0, p))
    return _collect(rows, weight_decay, 1.0)


def model_groups(
    model: nn.Module, weight_decay: float, lr: float, techniques: Mapping[str, float], network: Network
) -> list[dict[str, Any]]:
    """The same from a model, of which ``network`` says what its weights are, and learning rates by layer where ``techniques``
    ask for it. Raises what ``groups_of`` does.
    """
    groups = groups_of(model, list(techniques), network, frozen=True)
    rows: list[_Row] = []
    for name, p in model.named_parameters():
        row = groups.rows[groups.index[name]]
        rows.append((network.known[name].role, row.decays, float(row.rate(techniques)), p))
    return _collect(rows, weight_decay, lr)


def _collect(rows: list[_Row], weight_decay: float, lr: float) -> list[dict[str, Any]]:
    groups: dict[tuple[Role, bool, float], list[Tensor]] = {}
    for role, decays, factor, p in rows:
        groups.setdefault((role, decays, factor), []).append(p)
    return [
        {"params": params, "role": role, "weight_decay": weight_decay if decays else 0.0}
        | ({} if factor == 1 else {"lr": lr * factor, "base_lr": lr * factor})
        for (role, decays, factor), params in groups.items()
    ]
