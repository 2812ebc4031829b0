"""A catalogue optimizer behind torch's interface."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import chain
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor

from optim_core.minimizers.named_optimizer import METHOD, PLACES, NamedOptimizer, never_compiled, weights_in
from optim_core.spec.errors import SpecError
from optim_core.transforms import torch_private as private
from optim_core.transforms.arena import Arena, Member
from optim_core.transforms.base import Hyper
from optim_core.transforms.complex_weights import check_complex
from optim_core.transforms.hyperparameters import group_values, kept_betas, never_read, number, why_never_read
from optim_core.transforms.kept_state import STEP, TRAINED, check_gradient
from optim_core.transforms.known_weights import KnownWeights
from optim_core.transforms.registry import build_transform
from optim_core.transforms.resting import count_on, rest, resting
from optim_core.transforms.roles import check_role
from optim_core.transforms.saved_state import STATE_BITS, fitted, loaded
from optim_core.transforms.shown import take_back
from optim_core.transforms.techniques import techniques_of

# Sets of weights with a gradient that are remembered: layers and experts that take turns come back.
MOST_REMEMBERED = 16
_NOT_HYPER = {METHOD, STATE_BITS, "differentiable", "betas"}


class TransformOptimizer(NamedOptimizer):
    """param_groups, state_dict, lr schedulers, closures, GradScaler: as any optimizer of torch.

    A weight whose gradient is None is left alone, as torch's own optimizers do. All that a method remembers is in
    ``state[p]``: float32 of 16-bit weights, of the weight's precision otherwise, and contiguous. What counts for several
    weights (``step``, "trial.…") is one tensor that they share. Weights, groups and state may be changed, replaced or
    cleared between steps. ``.eval()`` and ``.train()`` move the weights of methods whose answer is not the point they train;
    weights that are loaded or changed in between are kept (``shown.py``).
    """

    def __init__(self, params: Any, name: str, defaults: dict[str, Any]) -> None:
        """``defaults``: the method's hyperparameters by the catalogue's names, and techniques. Raises SpecError for complex
        weights where the method looks at their axes.
        """
        kept = kept_betas(name)
        betas = {"betas": tuple(defaults[key] for key in kept)} if kept else {}
        noise = {"noise_key": 0.0} if "gradient_noise" in defaults else {}
        plain = {key: value for key, value in defaults.items() if key not in kept}
        self._forget()
        super().__init__(params, name, {"maximize": False, **plain, **betas, **noise, "base_lr": defaults["lr"]})

    def _forget(self) -> None:
        # What was gathered for the last steps; it saves time and can be gathered again.
        self._arena: Arena | None = None
        self._earlier: dict[Any, Arena] = {}
        self._weights: list[Tensor] = []
        self._gathered_as: tuple[Any, ...] = ()
        self._given: list[Any] = []
        self._found: tuple[list[Hyper], list[int]] = ([], [])

    @cached_property
    def _known(self) -> KnownWeights:
        return KnownWeights()

    @cached_property
    def _techniques(self) -> list[str]:
        return techniques_of(self.defaults)

    @property
    def _state_bits(self) -> int:
        return self.defaults.get(STATE_BITS, 32)

    @cached_property
    def _transform(self) -> Any:
        return build_transform(self.method, techniques=self._techniques)

    @cached_property
    def _hyper_names(self) -> tuple[str, ...]:
        return tuple(key for key in self.defaults if key not in _NOT_HYPER)

    @cached_property
    def _read(self) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
        names = itemgetter(*self._hyper_names)
        return (lambda group: (*names(group), group["betas"])) if self._betas else lambda group: (*names(group), ())

    @cached_property
    def _never_read(self) -> frozenset[str]:
        return never_read(self.defaults)

    @cached_property
    def _betas(self) -> tuple[str, ...]:
        return kept_betas(self.method)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's, with what is derived for every group: the rate before any schedule, and the order of weights.

        ``role`` says what all its weights are; without it those with two axes or more are matrices, as wherever there is no
        model. Raises SpecError for an unknown role and for an entry that nothing reads.
        """
        if isinstance(param_group, dict):
            check_role(param_group.get("role"))
            own = {key: value for key, value in param_group.items() if key != "params"}
            own = group_values(self.method, own, self.defaults)
            param_group = {"base_lr": own.get("lr", self.defaults["lr"]), **own, "params": weights_in(param_group)}
        count = sum(len(group["params"]) for group in self.param_groups)
        super().add_param_group(param_group)
        added = self.param_groups[-1]
        added.setdefault(PLACES, list(range(count, count + len(added["params"]))))
        check_complex(self.method, self._techniques, added["params"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, but by the names of weights where both sides have them, and also what torch's own class of the method
        saved. Nothing is shared with ``state_dict`` afterwards. Raises SpecError for the state of another method.
        """
        seen: list[dict[str, Any]] = []

        def fit(_: Any, saved: dict[str, Any]) -> dict[str, Any]:
            seen.append(fitted(self, saved))
            return seen[-1]

        # After the hooks of others.
        handle = self.register_load_state_dict_pre_hook(fit)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        # torch has cast what is remembered to the weight's precision.
        weights = list(chain.from_iterable(group["params"] for group in self.param_groups))
        for i, own in loaded(seen[-1]["state"], weights).items():
            self.state[weights[i]] = own

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update. ``closure`` evaluates the loss and its gradients; SAM cannot do without. Raises SpecError.

        Inside a function that is compiled it runs as it is: the compiler cannot follow state by name and kernels in place.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # torch.no_grad takes as long as ten small weights.
        graded = torch.is_grad_enabled()
        private.set_grad_enabled(False)
        try:
            self._step(closure)
        finally:
            private.set_grad_enabled(graded)
        return loss

    def _step(self, closure: Callable[[], Any] | None) -> None:
        hypers, which = self._hypers()
        arena, grads = self._gathered(hypers, which)
        if arena is not None and self._transform.perturb is not None:
            self._move_and_look_again(arena, grads, hypers, closure)
            arena, grads = self._gathered(hypers, which)
        if arena is not None:
            arena.step(grads, hypers)
        if self._transform.rest_ is not None:
            self._rest(arena, hypers, which)

    def _rest(self, arena: Arena | None, hypers: list[Hyper], which: list[int]) -> None:
        """What a step does to the weights that had no gradient in it."""
        if arena is not None and len(arena.members) == len(self.state):
            return
        everyone = list(self.state.values())
        if arena is None:
            count_on(everyone)
        if members := resting(self._members(which)):
            rest(self.method, members, hypers, self._techniques, everyone, self._state_bits)

    @never_compiled
    @torch.no_grad()
    def eval(self) -> None:
        """See the class."""
        if not self._transform.answers_elsewhere:
            return
        hypers, which = self._hypers()
        members = [m for m in self._members(which) if STEP in m.own and TRAINED not in m.own]
        if members:
            Arena(self.method, members, hypers, self._techniques, self.state.values(), self._state_bits).show_answer(
                hypers
            )

    @never_compiled
    @torch.no_grad()
    def train(self) -> None:
        """Undo ``eval``; nothing happens where there was none. What somebody has put into a weight since stays there."""
        for p, own in self.state.items():
            if TRAINED in own:
                take_back(p, own)

    @staticmethod
    def _move_and_look_again(
        arena: Arena, grads: list[Tensor], hypers: list[Hyper], closure: Callable[[], Any] | None
    ) -> None:
        if closure is None:
            raise SpecError("two gradients are taken a step: call step(closure)", code="closure_missing")
        weights = [member.p for member in arena.members]
        before = [p.detach().clone() for p in weights]
        arena.perturb(grads, hypers)
        try:
            with torch.enable_grad():
                closure()
        finally:
            private.foreach_copy_(weights, before)

    def _hypers(self) -> tuple[list[Hyper], list[int]]:
        """Every set of hyperparameters that a group has, and for each group which: groups that agree in everything are
        updated as one. Raises SpecError for what somebody has set in a group and nothing reads.
        """
        for group in self.param_groups:
            if not self._never_read.isdisjoint(group):
                message = why_never_read(self.method, self._never_read & group.keys())
                raise SpecError(message, code="unknown_field")
        given = list(map(self._read, self.param_groups))
        if given != self._given:
            rows = [tuple(map(number, (*row[:-1], *row[-1]))) for row in given]
            distinct = list(dict.fromkeys(rows))
            names = (*self._hyper_names, *self._betas)
            self._found = [dict(zip(names, row, strict=True)) for row in distinct], list(map(distinct.index, rows))
            # Anything but a number may be changed in place.
            plain = all(isinstance(value, int | float) for row in given for value in (*row[:-1], *row[-1]))
            self._given = given if plain else []
        return self._found

    def _gathered(self, hypers: list[Hyper], which: list[int]) -> tuple[Arena | None, list[Tensor]]:
        """The weights that have a gradient now, and those; the arena of the last step where nothing has changed since."""
        groups = [group["params"] for group in self.param_groups]
        weights = list(chain.from_iterable(groups))
        every = [p.grad for p in weights]
        as_now = (which, list(map(len, groups)), [g is None for g in every])
        if (
            self._arena is not None
            and as_now == self._gathered_as
            and all(map(is_, weights, self._weights))
            and self._arena.matches(self.state)
        ):
            places = self._arena.places
            return self._arena, every if len(places) == len(every) else [every[i] for i in places]
        if any(TRAINED in own for own in self.state.values()):
            raise SpecError(f"{self.method}: call optimizer.train() before training goes on", code="evaluating")
        earlier = self._earlier if len(weights) == len(self._weights) and all(map(is_, weights, self._weights)) else {}
        self._forget()
        key = tuple(map(tuple, as_now))
        arena = earlier.pop(key, None)
        if arena is None or not arena.resume(self.state):
            members = [m for m in self._members(which) if m.p.grad is not None]
            if not members:
                return None, []
            self._known.keep(weights)
            everyone = self.state.values()
            arena = Arena(self.method, members, hypers, self._techniques, everyone, self._state_bits, self._known)
        else:
            for member in arena.members:
                check_gradient(member.p)
        self._arena, self._weights, self._gathered_as = arena, weights, as_now
        # The last comes last; the first is forgotten.
        self._earlier = dict([*earlier.items(), (key, arena)][-MOST_REMEMBERED:])
        return arena, [every[place] for place in arena.places]

    def _members(self, which: list[int]) -> list[Member]:
        """All weights that hold any number."""
        members: list[Member] = []
        place = 0
        for index, group in zip(which, self.param_groups, strict=True):
            for p in group["params"]:
                if p.numel():
                    own = self.state[p] if p.grad is not None else self.state.get(p, {})
                    members.append(Member(p, own, index, group.get("role"), place))
                place += 1
        return members
