"""How the weights of a network are registered, and what the layers of torch are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d,
    nn.InstanceNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
)  # fmt: skip
OUTPUTS = (
    nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
INNER = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
LAYERS = (*OUTPUTS, *INNER)
LISTS = (nn.ParameterList, nn.ParameterDict)


class Place(NamedTuple):
    """Where a weight is registered: the layer's name, the layer, the attribute, and whether it is the attribute itself."""

    layer: str
    owner: nn.Module
    attribute: str
    plain: bool


class Registered(NamedTuple):
    """A weight, and everywhere it is registered: places, and names in the same order."""

    p: Tensor
    places: list[Place]
    names: list[str]


def registered(model: nn.Module) -> dict[str, Registered]:
    """Name, as in ``model.named_parameters()`` and in its order → the weight."""
    modules = dict(model.named_modules(remove_duplicate=False))
    first: dict[int, str] = {}
    found: dict[str, Registered] = {}
    for layer, module in modules.items():
        for attribute, p in module.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{layer}.{attribute}" if layer else attribute
            one = found.setdefault(first.setdefault(id(p), name), Registered(p, [], []))
            one.places.append(_place(layer, attribute, modules))
            one.names.append(name)
    return found


def _place(layer: str, attribute: str, modules: Mapping[str, nn.Module]) -> Place:
    above, inside, rest = f".{layer}.".partition(".parametrizations.")
    if inside and is_parametrized(modules[above[1:]]):
        # What a layer's weight is calculated from belongs to that layer.
        return Place(above[1:], modules[above[1:]], rest.partition(".")[0], plain=False)
    while layer and isinstance(modules[layer], LISTS):
        layer, _, attribute = layer.rpartition(".")
    return Place(layer, modules[layer], attribute, plain=True)


def adapts(name: str) -> bool:
    """Whether a weight or module is a factor of an adapter beside a layer (Hu et al. 2021, arXiv 2106.09685), by its name."""
    return any(part.lower().startswith(("lora_a", "lora_b")) for part in name.split("."))
