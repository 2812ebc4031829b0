"""What each weight of a network is, which decides how methods for matrices treat it and whether weight decay acts on it.

The rule, in this order, over all places in which a weight is registered (a tied weight has several):

1. of an embedding (``nn.Embedding``, ``nn.EmbeddingBag``, a module that says ``weight_role = "embedding"``): *embedding*;
2. of a normalisation layer, torch's or one called so: *norm*;
3. fewer than two axes, or not more than one longer than 1 (a class token, the norms that ``weight_norm`` splits off), unless
   it is a weight of a layer: *vector*;
4. of an output layer: *head*;
5. of another layer (linear, bilinear, convolution, recurrent, attention), or a factor of an adapter (lora_A, lora_B): *matrix*;
6. of any other module: *embedding* with an axis of 1 or a name that says so (positions, tokens, prompts); *stack* with three
   axes (experts, each a matrix); *matrix* if the module looks like a layer, else *embedding*.

With an example input, 4 and 6 are seen in a forward pass: output layers are those whose result enters no other product,
and what is never a factor of a product is no matrix. Without one they are guessed from how modules are registered.

Weight decay acts on matrices, stacks, heads and on embeddings that are looked up. It does not act on norms and vectors, nor on
embeddings that are added as a bias is: positions, tokens, prompts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from optim_core.spec.errors import SpecError
from optim_core.spec.names import unknown_name
from optim_core.spec.optimizers import Role
from optim_core.transforms.order_of_use import Uses, uses_of
from optim_core.transforms.output_layers import output_layers
from optim_core.transforms.registration import (
    EMBEDDINGS,
    INNER,
    LAYERS,
    LISTS,
    NORMS,
    Place,
    Registered,
    adapts,
    registered,
)

# Norms that are not torch's: RMSNorm of a language model, LayerNorm2d of an image one.
_CALLED_NORM = re.compile(r"Norm(\dd)?$")


class Known(NamedTuple):
    """A weight's role, whether weight decay acts on it, and what else it may be where registration does not show it."""

    role: Role
    decays: bool
    maybe: Role | None = None


@dataclass(frozen=True)
class Network:
    """What is known of a model's weights. ``order``: their names, from input to output as far as was seen."""

    weights: dict[str, Registered]
    known: dict[str, Known]
    order: list[str]

    @property
    def roles(self) -> dict[str, Role]:
        """Name → role."""
        return {name: one.role for name, one in self.known.items()}


def roles_of(model: nn.Module, example_input: Any = None, roles: Mapping[str, Role] | None = None) -> dict[str, Role]:
    """Role of every parameter, by the names of ``model.named_parameters()``: matrix, stack, vector, embedding, norm or head.

        >>> hidden = [torch.nn.Embedding(9, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)]
        >>> model = torch.nn.Sequential(*hidden, torch.nn.Linear(4, 2))
        >>> {name: role for name, role in optim_core.roles_of(model).items() if name.endswith("weight")}
        {'0.weight': 'embedding', '1.weight': 'matrix', '2.weight': 'norm', '3.weight': 'head'}

    ``example_input``: a tensor, a tuple of positional or a mapping of keyword arguments for one forward pass, which shows
    what the registration of modules cannot: which layers give the output. ``roles``: name → role, stronger than the rule;
    any name of a shared weight. Raises SpecError for an unknown name or role, an example that the model does not take, and
    weights whose shape is not known yet.
    """
    return look_at(model, example_input, roles).roles


def look_at(model: nn.Module, example_input: Any = None, roles: Mapping[str, Role] | None = None) -> Network:
    """All that registration and the example show, as ``roles_of`` takes them. Raises what ``roles_of`` does."""
    if not isinstance(model, nn.Module):
        message = f"roles are of a model: give the module itself, not {type(model).__name__}"
        raise SpecError(message, code="wrong_type")
    uses = None if example_input is None else uses_of(model, example_input)
    weights = registered(model)
    for name, one in weights.items():
        if is_lazy(one.p):
            raise SpecError(f"{name} has no shape yet: run the model once, or give example_input", code="not_ready")
    known = {name: _known(one, uses) for name, one in weights.items()}
    for name, maybe in _last(model, weights, uses).items():
        if known[name].role == "matrix":
            known[name] = known[name]._replace(role="head" if maybe != "head" else "matrix", maybe=maybe)
    names = {other: name for name, one in weights.items() for other in one.names} if roles else {}
    for name, role in checked_roles(roles or {}, names).items():
        decays = known[name].decays if role == known[name].role else decaying_by_role(role, weights[name].p)
        known[name] = Known(role, decays)
    return Network(weights, known, _in_order(weights, uses))


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
    """Names of the weights that feel weight decay: see the top of this file."""
    return {name for name, one in look_at(model).known.items() if one.decays}


def decaying_by_role(role: Role, p: Tensor) -> bool:
    """Whether weight decay acts on a weight of which only its role is known."""
    return p.ndim >= 2 and role not in ("norm", "vector")


def _known(one: Registered, uses: Uses | None) -> Known:
    p, places = one.p, one.places
    owners = [place.owner for place in places]
    declared = [getattr(owner, "weight_role", None) for owner in owners]
    looked_up = uses is not None and id(p) in uses.looked_up
    if looked_up or "embedding" in declared or any(isinstance(owner, EMBEDDINGS) for owner in owners):
        return Known("embedding", p.ndim >= 2)
    if any(isinstance(owner, NORMS) or _CALLED_NORM.search(type(owner).__name__) for owner in owners):
        return Known("norm", False)
    layers = [place for place in places if isinstance(place.owner, LAYERS)]
    if p.ndim < 2:
        return Known("vector", False)
    if any(place.plain and place.attribute.startswith("weight") for place in layers) or "matrix" in declared:
        return Known("matrix", True)
    if sum(size > 1 for size in p.shape) < 2:
        return Known("vector", False)
    if layers or any(map(adapts, one.names)):
        return Known("matrix", True)
    return _guessed(p, places) if uses is None or not uses.multiplied else _seen(p, uses)


def _seen(p: Tensor, uses: Uses) -> Known:
    """Of a weight that no module explains, from what was done with it."""
    if id(p) not in uses.multiplied:
        return Known("embedding", False)
    return Known("stack" if _counts_matrices(p) and id(p) not in uses.convolved else "matrix", True)


def _guessed(p: Tensor, places: list[Place]) -> Known:
    """The same from how it is registered."""
    place = places[0]
    if _is_added(place) or (1 in p.shape and not _convolves(place)):
        return Known("embedding", False)
    if p.ndim > 2:
        return Known("stack" if p.ndim == 3 and _counts_matrices(p) and not _convolves(place) else "matrix", True)
    if all(_holds_others(one.owner) for one in places):
        return Known("embedding", True, maybe="matrix")
    return Known("matrix", True, maybe=None if place.attribute == "weight" else "embedding")


def _counts_matrices(p: Tensor) -> bool:
    # A complex weight is worked on as two reals along an axis more.
    return p.ndim > 2 and not p.is_complex()


def _is_added(place: Place) -> bool:
    """Whether it is called a position, an embedding, a token or a prompt."""
    own = place.layer.rpartition(".")[2] if place.attribute == "weight" else place.attribute
    return own == "pe" or any(
        part.startswith(("pos", "emb", "token", "prompt")) for part in re.split(r"[\W_]+", own.lower())
    )


def _convolves(place: Place) -> bool:
    return "conv" in type(place.owner).__name__.lower()


def _holds_others(owner: nn.Module) -> bool:
    return any(any(True for _ in child.parameters()) for child in owner.children() if not isinstance(child, LISTS))


def _last(model: nn.Module, weights: Mapping[str, Registered], uses: Uses | None) -> dict[str, Role | None]:
    """Weights that are the head's if they are matrices, and what else they may be; *head*, where they may be the head's."""
    if uses is not None and uses.multiplied:
        last = {name: one for name, one in weights.items() if id(one.p) in uses.last}
        return {name: None for name, one in last.items() if _may_be_head(one)}
    outputs = output_layers(model, weights)
    found: dict[str, Role | None] = {}
    for name, one in weights.items():
        layers = {place.layer for place in one.places}
        if layers & outputs.layers:
            found[name] = "matrix" if layers & outputs.unsure else None
        elif layers & outputs.unsure:
            found[name] = "head"
    return found


def _may_be_head(one: Registered) -> bool:
    return not any(isinstance(place.owner, INNER) for place in one.places) and not any(map(adapts, one.names))


def _in_order(weights: Mapping[str, Registered], uses: Uses | None) -> list[str]:
    """Names by first use; what was not used stays behind what is registered before it."""
    ranks: dict[str, int] = {}
    for name, one in weights.items():
        before = next(reversed(ranks.values()), -1)
        ranks[name] = before if uses is None else uses.order.get(id(one.p), before)
    return sorted(ranks, key=ranks.__getitem__)
