"""Weights that share hyperparameters: by weight decay, and by layer where a technique sets learning rates of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from optim_core.spec.optimizers import Role
from optim_core.transforms.base import Hyper, Hypers, Scalar
from optim_core.transforms.roles import decaying, registered, roles_of

# Techniques that act on the learning rate of a layer.
LAYER_RATES = ("layer_decay", "head_lr")


class Group(NamedTuple):
    """Weights that share hyperparameters: whether they decay, how many layers lie above them, whether they are the head's."""

    decays: bool
    above: int = 0
    head: bool = False

    def rate(self, hyper: Hyper) -> Scalar:
        """What the layer's learning rate is a multiple of: ξ^(layers above), times ``head_lr`` for the head."""
        factor: Scalar = 1.0
        if self.above and "layer_decay" in hyper:
            factor = hyper["layer_decay"] ** self.above
        if self.head and "head_lr" in hyper:
            factor = factor * hyper["head_lr"]
        return factor


@dataclass(frozen=True)
class Groups:
    """The groups of a network's weights, and which weight is in which."""

    rows: tuple[Group, ...]
    index: dict[str, int]

    def hypers(self, hyper: Hyper) -> Hypers:
        """The hyperparameters of each group."""
        return [self._of(hyper, row) for row in self.rows]

    @staticmethod
    def _of(hyper: Hyper, row: Group) -> Hyper:
        own: dict[str, Scalar] = dict(hyper)
        factor = row.rate(hyper)
        if not (isinstance(factor, float) and factor == 1):
            own["lr"], own["base_lr"] = own["lr"] * factor, own["base_lr"] * factor
        if not row.decays:
            own["weight_decay"] = 0.0
        return own


def groups_of(
    model: nn.Module, techniques: Sequence[str], roles: Mapping[str, Role] | None = None, *, frozen: bool = False
) -> Groups:
    """Two groups, those that decay and those that do not; by layer where a technique needs it. ``frozen``: of all weights,
    also those that are frozen now.

    A layer is a module with weights of its own, in the order of registration, output layers above all hidden ones;
    ``roles`` are those of ``roles_of(model)`` when not given.
    """
    decays, roles = decaying(model), roles_of(model) if roles is None else roles
    layers = {name: one.places[0].layer for name, one in registered(model).items()}
    heads = {layers[name] for name, role in roles.items() if role == "head"}
    order = _from_input_to_output(layers, roles, heads)
    by_layer = "layer_decay" in techniques

    def row(name: str) -> Group:
        above = len(order) - 1 - order.index(layers[name]) if by_layer else 0
        return Group(name in decays, above, "head_lr" in techniques and layers[name] in heads)

    found = {name: row(name) for name, p in model.named_parameters() if frozen or p.requires_grad}
    # Both plain groups always, so that the order does not depend on the network.
    rows = tuple(dict.fromkeys([Group(True), Group(False), *found.values()]))
    return Groups(rows, {name: rows.index(group) for name, group in found.items()})


def _from_input_to_output(layers: Mapping[str, str], roles: Mapping[str, Role], heads: set[str]) -> list[str]:
    order = list(dict.fromkeys(layers.values()))
    hidden = [order.index(layers[name]) for name, role in roles.items() if role == "matrix"]
    early = [layer for layer in order if layer in heads and order.index(layer) < max(hidden, default=0)]
    return [layer for layer in order if layer not in early] + early
