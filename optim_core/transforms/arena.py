"""Weights of a torch optimizer that are updated together, and the state of their method between steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optim_core.transforms.base import TRIAL, Hypers, Layout, Params, State, Transform
from optim_core.transforms.bundle import Bundle
from optim_core.transforms.registry import build_transform

# Entries of a weight's state in torch's sense.
STEP = "step"
TRAINED = "trained_weights"
# On the CPU a weight of so many numbers does all its operations before the next weight's turn: calls no longer matter, but
# what an operation leaves in the cache does.
ALONE = 1 << 17


class Member(NamedTuple):
    """A weight, the index of its param group and its role, where it is known."""

    p: Tensor
    group: int
    role: Any


class Arena:
    """``weights`` in order; all have taken the same number of steps and share precision and device.

    Weights that their method can take together do one multi-tensor call for all: as a bundle, or as one flat tensor where
    the method is wrapped and does not care how weights are cut.
    """

    def __init__(
        self,
        name: str,
        members: list[Member],
        stored: Mapping[Tensor, dict[str, Any]],
        techniques: Sequence[str] = (),
    ) -> None:
        self.weights = [member.p for member in members]
        self._members = members
        method = build_transform(name, techniques=techniques)
        self._flat = method.shape_free and _bundle_of(method, members[0]) is None
        self._names = [self._name_of(method, i, member) for i, member in enumerate(members)]
        groups = dict(zip(self._names, (m.group for m in members), strict=True))
        roles = {n: m.role for n, m in zip(self._names, members, strict=True) if m.role is not None and not self._flat}
        self.transform = build_transform(name, Layout(roles=roles, groups=groups), techniques)
        self._places: dict[str, list[int]] = {}
        for i, key in enumerate(self._names):
            self._places.setdefault(key, []).append(i)
        self._sparse = any(p.grad is not None and p.grad.is_sparse for p in self.weights)
        self._t = int(stored[self.weights[0]].get(STEP, 0))
        self._state: State | None = self._restore(stored) if self._t else None

    def _name_of(self, method: Transform, i: int, member: Member) -> str:
        if self._flat:
            return f"group{member.group}"
        bundle = _bundle_of(method, member)
        if bundle is None:
            return f"weight{i}"
        alone = member.p.is_cpu and member.p.numel() >= ALONE
        return f"group{member.group}/{bundle}" + (f"/{i}" if alone else "")

    def step(self, hypers: Hypers) -> None:
        """One update of all weights from their gradients."""
        params, grads = self._collect(self.weights), self._grads()
        if self._state is None:
            self._state = self.transform.init(params, hypers)
        self._t += 1
        self.transform.update_(params, grads, self._state, hypers, self._t)
        if self._flat:
            self._write(params)

    def perturb(self, hypers: Hypers) -> None:
        """Move the weights to where the gradient that counts is taken."""
        assert self.transform.perturb is not None
        self._write(self.transform.perturb(self._collect(self.weights), self._grads(), hypers))

    def show_answer(self, hypers: Hypers, stored: Mapping[Tensor, dict[str, Any]]) -> None:
        """Keep the trained weights in ``stored`` and put the answer in their place."""
        if self._state is None:
            return
        answer = self.transform.answer(self._collect(self.weights), self._state, hypers)
        for p in self.weights:
            stored[p][TRAINED] = p.detach().clone()
        self._write(answer)

    def flush(self, stored: Mapping[Tensor, dict[str, Any]]) -> None:
        """Put everything under each weight, as torch saves it. Numbers of a trial become plain floats: torch would cast
        tensors to the weight's precision.
        """
        if self._state is None:
            return
        cut = {key: self._cut(tensors) for key, tensors in self._state.items() if key != TRIAL}
        for i, member in enumerate(self._members):
            own = stored[member.p]
            own[STEP] = self._t
            for key, tensors in cut.items():
                if tensors[i] is not None:
                    own[key] = tensors[i]
            for key, number in self._state.get(TRIAL, {}).items():
                name, slash, group = key.partition("/")
                if not slash or int(group) == member.group:
                    own[f"{TRIAL}.{name}{slash}"] = float(number)

    def _restore(self, stored: Mapping[Tensor, dict[str, Any]]) -> State:
        state: State = {}
        parts: dict[str, dict[str, list[Tensor]]] = {}
        for name, member in zip(self._names, self._members, strict=True):
            for key, value in stored[member.p].items():
                if key.startswith(f"{TRIAL}."):
                    full = key.removeprefix(f"{TRIAL}.")
                    full = f"{full}{member.group}" if full.endswith("/") else full
                    state.setdefault(TRIAL, {})[full] = torch.tensor(value, dtype=torch.float64)
                elif key not in (STEP, TRAINED):
                    parts.setdefault(key, {}).setdefault(name, []).append(value)
        for key, tensors in parts.items():
            state[key] = {name: self._join(name, pieces) for name, pieces in tensors.items()}
        return state

    def _grads(self) -> Params:
        grads = [p.grad for p in self.weights]
        if self._sparse:
            grads = [g.to_dense() if g.is_sparse else g for g in grads]  # type: ignore[union-attr]
        return self._collect(grads)  # type: ignore[arg-type]

    def _collect(self, tensors: Sequence[Tensor]) -> Params:
        return {name: self._join(name, [tensors[i] for i in places]) for name, places in self._places.items()}

    def _join(self, name: str, pieces: list[Tensor]) -> Any:
        if self._flat:
            return torch.cat([piece.reshape(-1) for piece in pieces])
        return pieces[0].detach() if name.startswith("weight") else Bundle(pieces)

    def _cut(self, tensors: Params) -> list[Tensor | None]:
        """Per weight its part, in its own shape; None for weights that the method keeps no such tensor of."""
        found: list[Tensor | None] = [None] * len(self.weights)
        for name, places in self._places.items():
            whole = tensors.get(name)
            if whole is None:
                continue
            if self._flat:
                pieces = whole.split([self.weights[i].numel() for i in places])
            else:
                pieces = whole.tensors if isinstance(whole, Bundle) else [whole]
            for i, piece in zip(places, pieces, strict=True):
                found[i] = piece.view(self.weights[i].shape) if self._flat else piece
        return found

    def _write(self, new: Params) -> None:
        torch._foreach_copy_(self.weights, self._cut(new))  # type: ignore[arg-type]


def _bundle_of(method: Transform, member: Member) -> str | None:
    role = member.role or ("matrix" if member.p.ndim >= 2 else "vector")
    return method.bundles(role, tuple(member.p.shape))
