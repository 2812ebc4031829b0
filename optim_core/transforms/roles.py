"""What each weight of a network is, which decides how methods for matrices treat it.

The rule, in this order, over all places in which a weight is registered (a tied weight has several):

1. of an embedding (``nn.Embedding``, ``nn.EmbeddingBag``, a module that says ``weight_role = "embedding"``): *embedding*;
2. of a normalisation layer: *norm*;
3. fewer than two axes, or not more than one longer than 1 (a class token, the norms that ``weight_norm`` splits off), unless
   it is the ``weight`` of a layer: *vector*;
4. of an output layer: *head*;
5. of another layer (linear, bilinear, convolution, recurrent, attention): *matrix*;
6. of any other module: *matrix* if the module looks like a layer, else (positions, queries, prompts) *embedding*.

With an example input, 4 and 6 are seen in a forward pass: output layers are those whose result enters no other product,
and what is never a factor of a product is no matrix. Without one they are guessed from how modules are registered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from optim_core.spec.errors import SpecError
from optim_core.spec.names import unknown_name
from optim_core.spec.optimizers import Role
from optim_core.transforms.order_of_use import Uses, uses_of

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d,
    nn.InstanceNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
)  # fmt: skip
_OUTPUTS = (
    nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
_INNER = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
_LAYERS = (*_OUTPUTS, *_INNER)
_LISTS = (nn.ParameterList, nn.ParameterDict)


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


def roles_of(model: nn.Module, example_input: Any = None, roles: Mapping[str, Role] | None = None) -> dict[str, Role]:
    """Role of every parameter, by the names of ``model.named_parameters()``: matrix, vector, embedding, norm or head.

        >>> hidden = [torch.nn.Embedding(9, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)]
        >>> model = torch.nn.Sequential(*hidden, torch.nn.Linear(4, 2))
        >>> {name: role for name, role in optim_core.roles_of(model).items() if name.endswith("weight")}
        {'0.weight': 'embedding', '1.weight': 'matrix', '2.weight': 'norm', '3.weight': 'head'}

    ``example_input``: a tensor, a tuple of positional or a mapping of keyword arguments for one forward pass, which shows
    what the registration of modules cannot: which layers give the output. ``roles``: name → role, stronger than the rule;
    any name of a shared weight. Raises SpecError for an unknown name or role, an example that the model does not take, and
    weights whose shape is not known yet.
    """
    uses = None if example_input is None else uses_of(model, example_input)
    weights = registered(model)
    for name, one in weights.items():
        if is_lazy(one.p):
            raise SpecError(f"{name} has no shape yet: run the model once, or give example_input", code="not_ready")
    found: dict[str, Role] = {name: _role(one.p, one.places, uses) for name, one in weights.items()}
    if uses is None or not uses.multiplied:
        heads = _heads_by_registration(model)
        last = {name for name, one in weights.items() if any(place.layer in heads for place in one.places)}
    else:
        last = {name for name, one in weights.items() if id(one.p) in uses.last and _may_be_head(one.places)}
    for name in last:
        if found[name] == "matrix":
            found[name] = "head"
    names = {other: name for name, one in weights.items() for other in one.names} if roles else {}
    return {**found, **checked_roles(roles or {}, names)}


def role_by_shape(p: Tensor) -> Role:
    """The role of a weight of which nothing else is known: *matrix* for two axes or more, else *vector*."""
    return "matrix" if p.ndim >= 2 else "vector"


def checked_roles(roles: Mapping[str, Role], names: Mapping[str, str]) -> dict[str, Role]:
    """``roles`` by the names that ``names`` gives for theirs. Raises SpecError for an unknown name or role."""
    if not isinstance(roles, Mapping):
        raise SpecError(f"roles is a mapping, name → role, not {type(roles).__name__}", code="wrong_type")
    for name, role in roles.items():
        if role is None:
            raise SpecError(f"roles: {name} has no role; leave it out", code="wrong_type")
        if name not in names:
            raise SpecError(f"roles: {unknown_name('parameter', name, names)}", code="unknown_field")
        check_role(role)
    return {names[name]: role for name, role in roles.items()}


def check_role(role: str | None) -> None:
    """Raises SpecError for a role that does not exist; None says nothing."""
    if role is not None and role not in get_args(Role):
        raise SpecError(unknown_name("role", role, get_args(Role)), code="unknown_field")


def decaying(model: nn.Module) -> set[str]:
    """Names of the weights that feel weight decay: two axes or more. Biases and gains of norms do not."""
    return {name for name, p in model.named_parameters() if p.ndim >= 2}


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
    while layer and isinstance(modules[layer], _LISTS):
        layer, _, attribute = layer.rpartition(".")
    return Place(layer, modules[layer], attribute, plain=True)


def _role(p: Tensor, places: list[Place], uses: Uses | None) -> Role:
    owners = [place.owner for place in places]
    declared = [getattr(owner, "weight_role", None) for owner in owners]
    looked_up = uses is not None and id(p) in uses.looked_up
    if looked_up or "embedding" in declared or any(isinstance(owner, _EMBEDDINGS) for owner in owners):
        return "embedding"
    if any(isinstance(owner, _NORMS) for owner in owners):
        return "norm"
    layers = [place for place in places if isinstance(place.owner, _LAYERS)]
    if p.ndim < 2:
        return "vector"
    if any(place.plain and place.attribute == "weight" for place in layers) or "matrix" in declared:
        return "matrix"
    if sum(size > 1 for size in p.shape) < 2:
        return "vector"
    if layers:
        return "matrix"
    if uses is not None and uses.multiplied:
        return "matrix" if id(p) in uses.multiplied else "embedding"
    # A stack of one is a token's or a position's; a module that holds others is no layer itself.
    return "matrix" if p.shape[0] > 1 and not all(_holds_others(owner) for owner in owners) else "embedding"


def _holds_others(owner: nn.Module) -> bool:
    return any(any(True for _ in child.parameters()) for child in owner.children() if not isinstance(child, _LISTS))


def _may_be_head(places: list[Place]) -> bool:
    return not any(isinstance(place.owner, _INNER) for place in places)


def _heads_by_registration(model: nn.Module) -> set[str]:
    """Layers that probably give the output: last linear layers of what is called so, else the last one of all.

    What is registered later and takes what a layer called so gives shows that it was not the output; the last layer of all
    is no output if a layer called so takes what it gives.
    """
    linears = [
        (name, module) for name, module in model.named_modules(remove_duplicate=False) if isinstance(module, nn.Linear)
    ]
    named: dict[str, nn.Linear] = {}
    for prefix in _called_heads(model):
        inside = [(n, m) for n, m in linears if n == prefix or n.startswith(f"{prefix}.")]
        if inside:
            name, module = inside[-1]
            after = linears[linears.index(inside[-1]) + 1 :]
            if not any(m.in_features == module.out_features for _, m in after):
                named[name] = module
    if linears:
        name, module = linears[-1]
        if not any(m.in_features == module.out_features for m in named.values()):
            named[name] = module
    return set(named)


def _called_heads(model: nn.Module) -> Iterator[str]:
    """Modules at the top called head, heads, fc or classifier, in the usual variations; of several in one, each."""
    module, path = model, ""
    while True:
        held = {n: m for n, m in module.named_children() if any(True for _ in m.parameters())}
        called = [n for n in held if n == "fc" or n.endswith(("head", "heads", "classifier"))]
        for name in called:
            several = isinstance(held[name], nn.ModuleDict | nn.ModuleList)
            inner = [f".{key}" for key, _ in held[name].named_children()] if several else [""]
            yield from (path + name + key for key in inner)
        # Wrappers (parallel training, adapters) hold one module.
        if called or len(held) != 1 or any(True for _ in module.parameters(recurse=False)):
            return
        (name, module), *_ = held.items()
        path += f"{name}."
