"""Which layers a network has, from input to output, for learning rates that fall from layer to layer.

A network of blocks is one with an ``nn.ModuleList`` or ``nn.Sequential`` in which entries of one class repeat that hold
several layers each. Each of these is a layer, an entry that is a bare ``nn.Sequential`` of blocks is opened, and what is in
a block is of its layer. All that comes before the first block is one layer with the embeddings; all that comes after the last
is one layer with the heads; what stands between two blocks is of the first of them. So do BEiT (Bao et al. 2021, arXiv
2106.08254) and ELECTRA (Clark et al. 2020, arXiv 2003.10555): of twelve blocks the last has the rate ξ, the first ξ¹²,
the embeddings ξ¹³.

In a network without blocks each module with a matrix is a layer; norms and vectors are of the one before; embeddings are the
first layer and all heads the last.

What comes before is what is used before in a forward pass, where there was one, else what is registered before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from optim_core.spec.optimizers import Role
from optim_core.transforms.registration import Registered

_FIRST, _LAST = object(), object()


def blocks_of(model: nn.Module) -> list[str]:
    """Names of the blocks that repeat, in the order of registration; none in a network without."""
    return list(_blocks("", model))


def _blocks(path: str, module: nn.Module) -> Iterator[str]:
    inside = [(f"{path}.{name}" if path else name, child) for name, child in module.named_children()]
    repeated = _repeated(module)
    for name, child in inside:
        opened = type(child) is nn.Sequential and _repeated(child)
        if not repeated or (opened and type(child) in repeated):
            yield from _blocks(name, child)
        elif type(child) in repeated and _holds_several(child):
            yield name


def _repeated(module: nn.Module) -> set[type[nn.Module]]:
    if not isinstance(module, nn.Sequential | nn.ModuleList):
        return set()
    kinds = [type(child) for child in module.children() if _holds_several(child)]
    return {kind for kind in kinds if kinds.count(kind) > 1}


def _holds_several(module: nn.Module) -> bool:
    return sum(any(True for _ in one.parameters(recurse=False)) for one in module.modules()) > 1


def layers_above(
    model: nn.Module, weights: Mapping[str, Registered], roles: Mapping[str, Role], order: Sequence[str]
) -> dict[str, int]:
    """How many layers lie above that of each weight. ``order``: names of all weights, from input to output."""
    layers = {name: weights[name].places[0].layer for name in order}
    heads = {layers[name] for name in order if roles[name] == "head"}
    blocks = [block for block in blocks_of(model) if not any(_inside(head, block) for head in heads)]
    if blocks:
        found = _by_block(layers, roles, blocks, {_alone(head, blocks) for head in heads})
    else:
        found = _by_module(layers, roles, heads)
    units = list(dict.fromkeys(found.values()))
    middle = [unit for unit in units if unit is not _FIRST and unit is not _LAST]
    ranks = {unit: i for i, unit in enumerate([*({_FIRST} & set(units)), *middle, *({_LAST} & set(units))])}
    return {name: len(ranks) - 1 - ranks[unit] for name, unit in found.items()}


def _inside(layer: str, module: str) -> bool:
    return f"{layer}.".startswith(f"{module}.")


def _alone(layer: str, blocks: Sequence[str]) -> str:
    """The outermost module around a layer that holds no block."""
    parts = layer.split(".")
    around = [".".join(parts[:i]) for i in range(1, len(parts) + 1)]
    return next((module for module in around if not any(_inside(block, module) for block in blocks)), layer)


def _by_block(
    layers: Mapping[str, str], roles: Mapping[str, Role], blocks: Sequence[str], heads: set[str]
) -> dict[str, object]:
    own = {name: next((block for block in blocks if _inside(layer, block)), None) for name, layer in layers.items()}
    used = list(dict.fromkeys(block for block in own.values() if block is not None))
    found: dict[str, object] = {}
    # The furthest block so far, for what lies in none.
    reached = -1
    for name, layer in layers.items():
        block = own[name]
        if block is not None:
            reached = max(reached, used.index(block))
            found[name] = block
        elif any(_inside(layer, head) for head in heads):
            found[name] = _LAST
        elif roles[name] == "embedding" or reached < 0:
            found[name] = _FIRST
        else:
            found[name] = used[reached] if reached < len(used) - 1 else _LAST
    return found


def _by_module(layers: Mapping[str, str], roles: Mapping[str, Role], heads: set[str]) -> dict[str, object]:
    def unit(name: str) -> object:
        return _LAST if layers[name] in heads else _FIRST if roles[name] == "embedding" else layers[name]

    with_matrix = {unit(name): None for name in layers if roles[name] not in ("vector", "norm")}
    found: dict[str, object] = {}
    before = next(iter(with_matrix), _FIRST)
    for name in layers:
        before = unit(name) if unit(name) in with_matrix else before
        found[name] = before
    return found
