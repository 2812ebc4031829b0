"""Weights that share hyperparameters: by weight decay, and by layer where a technique sets learning rates of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from optim_core.spec.errors import SpecError
from optim_core.transforms.base import Hyper, Hypers, Scalar
from optim_core.transforms.layer_order import layers_above
from optim_core.transforms.roles import Network, look_at

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
    model: nn.Module, techniques: Sequence[str], network: Network | None = None, *, frozen: bool = False
) -> Groups:
    """Two groups, those that decay and those that do not; by layer where a technique needs it. ``frozen``: of all weights,
    also those that are frozen now.

    What a layer is: ``layer_order.py``. ``network``: what ``roles.look_at(model)`` gives, when it is known. Raises SpecError
    for ``head_lr`` where the model has no head of its own.
    """
    network = network or look_at(model)
    roles, layers = network.roles, {name: one.places[0].layer for name, one in network.weights.items()}
    heads = {layers[name] for name, role in roles.items() if role == "head"}
    if "head_lr" in techniques and not heads:
        message = (
            "head_lr needs a head of its own, and this model shows none: its output layer shares the weight of the embedding, "
            'or is not known. Leave head_lr out, or name the head: roles={"…": "head"}'
        )
        raise SpecError(message, code="option_not_applicable")
    above = layers_above(model, network.weights, roles, network.order) if "layer_decay" in techniques else {}

    def row(name: str) -> Group:
        of_head = "head_lr" in techniques and layers[name] in heads
        return Group(network.known[name].decays, above.get(name, 0), of_head)

    found = {name: row(name) for name, p in model.named_parameters() if frozen or p.requires_grad}
    # Both plain groups always, so that the order does not depend on the network.
    rows = tuple(dict.fromkeys([Group(True), Group(False), *found.values()]))
    return Groups(rows, {name: rows.index(group) for name, group in found.items()})
