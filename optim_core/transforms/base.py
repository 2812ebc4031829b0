"""The contract of an optimizer: pure functions. All memory is in the state that is passed back.

Shapes: without a trial axis, hyperparameters are floats and tensors have the weight's shape. With one, every
hyperparameter may be a (K,) float64 tensor and every tensor has a leading axis of K trials. One formula serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from optim_core.spec.optimizers import Role
from optim_core.spec.optimizers.roles import in_front
from optim_core.transforms.bundle import Bundle

# A weight: one tensor, or behind the torch face a bundle of them. Typed as Any because the two share methods, not a base.
Params = dict[str, Any]
State = dict[str, Params]
Scalar = float | bool | Tensor
Hyper = Mapping[str, Scalar]
# Hyperparameters of every parameter group; weights of one group share them (``Layout.groups`` says which is whose).
Hypers = Sequence[Hyper]
Own = dict[str, Any]
Numbers = dict[str, Scalar]
# What a method remembers per trial rather than per weight lies under this key of its state.
TRIAL = "trial"


@dataclass(frozen=True)
class Layout:
    """What a method must know about the weights besides their values.

    ``batched``: whether tensors lead with the trial axis. ``roles``: name → role; a weight not listed is a matrix when it
    has two or more axes of its own, else a vector. ``groups``: name → index into the hyperparameters; 0 when not listed.
    ``late``: name → steps that the method has taken without the weight, alike for all weights of a group. ``kernels``:
    whether fused kernels may be called, which know no tensors but torch's own. ``steps``: name → for each tensor of a bundle
    that a fused kernel updates its own step, from 1, counted by the caller; such a bundle may hold weights of any age.
    """

    batched: bool = False
    roles: Mapping[str, Role] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)
    late: Mapping[str, int] = field(default_factory=dict)
    kernels: bool = True
    steps: Mapping[str, list[Tensor]] = field(default_factory=dict)

    @property
    def lead(self) -> int:
        """Number of axes in front of a weight's own."""
        return int(self.batched)

    def role(self, name: str, p: Tensor) -> Role:
        """The weight's role."""
        return self.roles.get(name) or ("matrix" if p.ndim - self.lead >= 2 else "vector")

    def front(self, name: str, p: Tensor) -> int:
        """Number of axes in front of one matrix: a stack of them has some of its own."""
        return self.lead + in_front(self.role(name, p), p.ndim - self.lead)

    def group(self, name: str) -> int:
        """Index of the weight's hyperparameters."""
        return self.groups.get(name, 0)

    def age(self, name: str, t: int) -> int:
        """The weight's own step, from 1, at step ``t`` of the method."""
        return t - self.late.get(name, 0)


def _as_they_are(params: Params, state: State, hypers: Hypers) -> Params:
    del state, hypers
    return params


# (role, own shape) → which weights go into the same bundle.
Bundling = Callable[[Role, tuple[int, ...]], str | None]


def never(role: Role, shape: tuple[int, ...]) -> str | None:
    """Every weight by itself."""
    del role, shape
    return None


def all_alike(role: Role, shape: tuple[int, ...]) -> str | None:
    """Any weights together."""
    del role, shape
    return "all"


def by_axes(role: Role, shape: tuple[int, ...]) -> str | None:
    """Weights of as many axes together: what is one number of a weight is none of a complex one."""
    del role
    return f"{len(shape)} axes"


def by_shape(role: Role, shape: tuple[int, ...]) -> str | None:
    """Weights of one shape together."""
    del role
    return "x".join(map(str, shape))


class Perturb(Protocol):
    """(params, grads, hypers) → the point at which the gradient that counts is taken."""

    def __call__(self, params: Params, grads: Params, hypers: Hypers) -> Params: ...


class Transform(NamedTuple):
    """``init(params, hypers) → state``; ``update(params, grads, state, hypers, t) → (params, state)``; ``t`` from 1.

    ``hypers[i]["lr"]`` is the learning rate of this step, the schedule's multiplier included, and ``["base_lr"]`` the one
    before it. Nothing that is passed in is changed; ``update_`` is the same with weights and state changed in place, for
    callers that own both (gradients never change). ``answer(params, state, hypers)``: the point to evaluate and to
    keep, where it is not the one that is trained. ``perturb``: not None when the gradient has to be taken at another point
    (two gradients a step). ``shape_free``: the result does not depend on how weights are cut into tensors, so a caller
    may hand over all weights of a group as one flat tensor. ``bundles(role, shape)``: weights of a
    group with the same answer may be handed over as one bundle; None where they may not. ``one_pass``: a bundle is gone
    through once, so that its size does not matter. ``timeless``: it does not matter how many steps a weight has taken.
    ``rest_(params, state, hypers, t)``: what step ``t`` of the model does to
    the state of weights that have no gradient in it, where it does anything.
    """

    init: Callable[[Params, Hypers], State]
    update: Callable[[Params, Params, State, Hypers, int], tuple[Params, State]]
    update_: Callable[[Params, Params, State, Hypers, int], None]
    answer: Callable[[Params, State, Hypers], Params] = _as_they_are
    perturb: Perturb | None = None
    shape_free: bool = False
    bundles: Bundling = never
    one_pass: bool = False
    timeless: bool = False
    rest_: Callable[[Params, State, Hypers, int], None] | None = None

    @property
    def answers_elsewhere(self) -> bool:
        """Whether the point to evaluate differs from the one that is trained."""
        return self.answer is not _as_they_are


Builder = Callable[[Layout], Transform]


def per_trial(value: Scalar, like: Tensor) -> Scalar:
    """A float as it is; a (K,) tensor as (K, 1, …, 1) in ``like``'s dtype, so that it broadcasts against (K, …)."""
    if isinstance(value, Tensor):
        value = value.to(like.dtype)
        return value.view(-1, *[1] * (like.ndim - 1)) if value.ndim == 1 else value
    return value


def all_per_trial(numbers: Mapping[str, Scalar], like: Tensor) -> dict[str, Scalar]:
    """``per_trial`` of every number, the (K,) tensors among them in one conversion."""
    vectors = {key: v for key, v in numbers.items() if isinstance(v, Tensor) and v.ndim == 1}
    if not vectors:
        return {key: per_trial(value, like) for key, value in numbers.items()}
    stacked = torch.stack([v.double() for v in vectors.values()]).to(like.dtype)
    shaped = stacked.view(len(vectors), -1, *[1] * (like.ndim - 1)).unbind()
    rest = {key: per_trial(value, like) for key, value in numbers.items() if key not in vectors}
    return {**rest, **dict(zip(vectors, shaped, strict=True))}


def sqrt(value: Scalar) -> float | Tensor:
    """Square root of a float or a tensor."""
    return value.sqrt() if isinstance(value, Tensor) else float(value) ** 0.5


def where(condition: Scalar, yes: Scalar, no: Scalar) -> Scalar:
    """``yes if condition else no``, per trial where anything is a tensor."""
    if not isinstance(condition, Tensor):
        return yes if condition else no
    pick = torch.as_tensor(yes, dtype=torch.float64), torch.as_tensor(no, dtype=torch.float64)
    return torch.where(condition.bool(), *(x.to(condition.device) for x in pick))


def largest(a: Scalar, b: Scalar) -> Scalar:
    """max(a, b), per trial where anything is a tensor."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        like = a if isinstance(a, Tensor) else b
        assert isinstance(like, Tensor)
        return torch.maximum(*(torch.as_tensor(x, dtype=like.dtype, device=like.device) for x in (a, b)))
    return max(a, b)


def smallest(a: Scalar, b: Scalar) -> Scalar:
    """min(a, b), per trial where anything is a tensor."""
    negated = largest(-a, -b)
    return -negated


def is_any(value: Scalar) -> bool:
    """Whether a number or flag is non-zero for any trial."""
    return bool(value.any()) if isinstance(value, Tensor) else bool(value)


def is_zero(value: Scalar) -> bool:
    """Whether a number is the plain float 0, so that a term can be left out."""
    return not isinstance(value, Tensor) and value == 0


def own_dot(x: Any, y: Any, lead: int) -> Tensor:
    """Inner product over a weight's own axes, float64 as per-trial numbers are: (K,) with a trial axis, () without."""
    if isinstance(x, Bundle):
        return x.dot(y)
    if not lead:
        # One pass, and no product in between.
        return torch.dot(x.reshape(-1), y.reshape(-1)).double()
    return ((x * y).flatten(lead).sum(-1) if x.ndim > lead else x * y).double()


def own_size(x: Any, lead: int, scratch: Any) -> Tensor:
    """Sum of absolute values over a weight's own axes, float64: (K,) or (). ``scratch``, shaped as ``x``, is overwritten."""
    if isinstance(x, Bundle):
        return x.size(scratch)
    sizes = torch.abs(x, out=scratch)
    return (sizes.flatten(lead).sum(-1) if x.ndim > lead else sizes.clone()).double()


def own_mean(x: Any, lead: int) -> Tensor:
    """Mean over a weight's own axes, shaped to broadcast against it; a vector for a bundle."""
    if isinstance(x, Bundle):
        return x.means()
    return x.mean(dim=tuple(range(lead, x.ndim)), keepdim=True) if x.ndim > lead else x


def global_norm(tensors: Sequence[Any], lead: int) -> Tensor:
    """Euclidean norm over everything of a trial: (K,) or ()."""
    parts = [own_dot(x, x, lead) for x in tensors]
    # Weights may lie on several devices.
    return torch.stack([part.to(parts[0].device) for part in parts]).sum(0).sqrt()


def start_of_trial(params: Params, lead: int, value: float = 0.0) -> Tensor:
    """One float64 number per trial: (K,) on the weights' device; () on the CPU, where a single run's numbers live."""
    p = next(iter(params.values()))
    return torch.full(p.shape[:lead], value, dtype=torch.float64, device=p.device if lead else "cpu")


def copied(params: Params, state: State) -> tuple[Params, State]:
    """Copies of both that may be changed."""
    own = {key: {name: x.clone() for name, x in tensors.items()} for key, tensors in state.items()}
    return {name: p.clone() for name, p in params.items()}, own


def pure(
    update_: Callable[[Params, Params, State, Hypers, int], None],
) -> Callable[[Params, Params, State, Hypers, int], tuple[Params, State]]:
    """The update that leaves what is passed in as it is, from the one in place."""

    def update(params: Params, grads: Params, state: State, hypers: Hypers, t: int) -> tuple[Params, State]:
        params, state = copied(params, state)
        update_(params, grads, state, hypers, t)
        return params, state

    return update


def in_place(
    update: Callable[[Params, Params, State, Hypers, int], tuple[Params, State]],
) -> Callable[[Params, Params, State, Hypers, int], None]:
    """The update in place, from the pure one."""

    def update_(params: Params, grads: Params, state: State, hypers: Hypers, t: int) -> None:
        new, memory = update(params, grads, state, hypers, t)
        for name, p in params.items():
            p.copy_(new[name])
        for key, tensors in memory.items():
            state.setdefault(key, {}).update(tensors)

    return update_
