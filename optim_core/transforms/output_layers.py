"""Which layers give the output, as far as registration shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from optim_core.transforms.parts import Layers, Part, elsewhere, held, misplaced, parts_of, sides, within
from optim_core.transforms.registration import EMBEDDINGS, LAYERS, NORMS, OUTPUTS, Registered, adapts


class Outputs(NamedTuple):
    """Names of layers. ``layers``: those that probably give the output; ``unsure``: those that may, or may not."""

    layers: set[str]
    unsure: set[str]


def output_layers(model: nn.Module, weights: Mapping[str, Registered]) -> Outputs:
    """Last layers of what is called head, else the layer registered last and those beside it that take the same.

    Linear layers and convolutions. What is tied to an embedding gives the output, so nothing else is guessed beside it.
    Unsure is a layer at the end of a block that more of its kind could follow, one whose result could be multiplied with an
    embedding's weight, one after which something is registered that no class of torch's explains, and those that cannot stand
    where they are registered (``parts.py``).
    """
    layers: Layers = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, OUTPUTS) and not adapts(name)
    ]
    places = [one.places for one in weights.values()]
    tables = [own for own in places if any(isinstance(place.owner, EMBEDDINGS) for place in own)]
    tied = {place.layer for own in tables for place in own} & {name for name, _ in layers}
    path, root = _root(model)
    named = _called_heads(path, root, layers)
    if tied or named:
        last = [(name, m) for name, m in layers if isinstance(m, nn.Linear)][-1:] if not tied else []
        return Outputs({*tied, *named, *(n for n, m in last if not _feeds(m, list(named.values())))}, set())
    bare = _last_bare(weights)
    if not layers:
        return Outputs(set(), set() if bare is None else {bare})
    name, module = layers[-1]
    after = {bare} if bare is not None and _is_after(bare, name, weights) else set()
    unsure = {name, *after} if after or _may_go_on(model, name, layers) else set()
    if isinstance(root, nn.Sequential):
        return Outputs({name}, unsure)
    parts = parts_of(path, root, layers)
    beside = _beside_the_last(root, layers, parts)
    unclear = misplaced(parts, {name, *beside}, elsewhere(weights))
    after, unsure = after | unclear, unsure | unclear
    if beside:
        return Outputs({name, *beside}, after)
    widths = {place.owner.embedding_dim for own in tables for place in own if isinstance(place.owner, EMBEDDINGS)}
    if sides(module)[1] in widths:
        return Outputs(set(), {name, *after})
    mixed = not isinstance(module, nn.Linear) and any(isinstance(child, nn.Linear) for child in root.children())
    return Outputs({name}, {name, *after} if mixed else unsure)


def _root(model: nn.Module) -> tuple[str, nn.Module]:
    """The model inside wrappers (parallel training, adapters), which hold one module, and the path to what it holds."""
    module, path = model, ""
    while True:
        inside = held(module)
        if (
            len(inside) != 1
            or _is_called_head(next(iter(inside)))
            or any(True for _ in module.parameters(recurse=False))
        ):
            return path, module
        (name, module), *_ = inside.items()
        path += f"{name}."


def _is_called_head(name: str) -> bool:
    return name == "fc" or name.endswith(("head", "heads", "classifier"))


def _called_heads(path: str, root: nn.Module, layers: Layers) -> dict[str, nn.Module]:
    """Last layers of the modules at the top called head, heads, fc or classifier; of several in one, of each.

    What is registered later and takes what such a layer gives shows that it was not the output.
    """
    found: dict[str, nn.Module] = {}
    for name, module in held(root).items():
        if not _is_called_head(name):
            continue
        several = isinstance(module, nn.ModuleDict | nn.ModuleList)
        for inner in [f".{key}" for key, _ in module.named_children()] if several else [""]:
            inside = within(path + name + inner, layers)
            if inside and not _feeds(inside[-1][1], [m for _, m in layers[layers.index(inside[-1]) + 1 :]]):
                found[inside[-1][0]] = inside[-1][1]
    return found


def _feeds(layer: nn.Module, others: list[nn.Module]) -> bool:
    """Whether one of ``others``, of its kind, takes as many features as ``layer`` gives."""
    kind = isinstance(layer, nn.Linear)
    return any(isinstance(other, nn.Linear) == kind and sides(other)[0] == sides(layer)[1] for other in others)


def _beside_the_last(root: nn.Module, layers: Layers, parts: list[Part]) -> set[str]:
    """Last layers of the parts registered just before the last one that take the same and feed nothing: policy and value."""
    # What the model itself multiplies with stands between them.
    own = any(p.ndim > 1 and 1 not in p.shape for p in root.parameters(recurse=False))
    if own or not parts or parts[-1].last != layers[-1]:
        return set()
    taken, found = sides(parts[-1].first[0])[0], set()
    if taken is None or sides(layers[-1][1])[1] == taken:
        return set()
    for i, part in reversed([*enumerate(parts[:-1], 1)]):
        name, module = part.last
        later = [layer for p in parts[i:] for layer in p.first]
        same_kind = isinstance(module, nn.Linear) == isinstance(layers[-1][1], nn.Linear)
        if not same_kind or sides(part.first[0])[0] != taken or _feeds(module, later):
            break
        found.add(name)
    return found


def _may_go_on(model: nn.Module, name: str, layers: Layers) -> bool:
    """Whether a layer is the last of a block in a list that gives as many features as it takes, as one more could take."""
    parts = name.split(".")
    for i in range(1, len(parts)):
        around, block = model.get_submodule(".".join(parts[: i - 1])), ".".join(parts[:i])
        inside = within(block, layers)
        in_a_list = (
            isinstance(around, nn.ModuleList | nn.Sequential) and type(model.get_submodule(block)) is not nn.Sequential
        )
        if in_a_list and len(inside) > 1 and sides(inside[0][1])[0] == sides(inside[-1][1])[1]:
            return True
    return False


def _last_bare(weights: Mapping[str, Registered]) -> str | None:
    """The layer of the last matrix of a module that looks like a layer and is none of torch's."""
    found = None
    for one in weights.values():
        place = one.places[0]
        known = isinstance(place.owner, (*LAYERS, *EMBEDDINGS, *NORMS)) or hasattr(place.owner, "weight_role")
        leaf = not any(True for child in place.owner.children() for _ in child.parameters())
        if (
            place.attribute == "weight"
            and place.plain
            and one.p.ndim == 2
            and leaf
            and not known
            and not adapts(place.layer)
        ):
            found = place.layer
    return found


def _is_after(first: str, second: str, weights: Mapping[str, Registered]) -> bool:
    order = [one.places[0].layer for one in weights.values()]
    return second in order and order.index(first) > order.index(second)
