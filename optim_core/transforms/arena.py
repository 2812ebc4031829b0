"""The weights that take a step together, and what one step does to them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter, is_
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from optim_core.spec.errors import SpecError
from optim_core.transforms import torch_private as private
from optim_core.transforms.base import TRIAL, Hyper, Hypers, Layout, Params, State, Transform
from optim_core.transforms.bundle import Bundle
from optim_core.transforms.kept_state import MODEL_STEP, SHOWN, STEP, TRAINED, Method, check_gradient
from optim_core.transforms.known_weights import Known, KnownWeights
from optim_core.transforms.registry import build_transform
from optim_core.transforms.techniques import AVERAGES
from optim_core.transforms.working_form import WorkingForm

# On the CPU a weight of so many numbers does all its operations before the next weight's turn: calls no longer matter, but
# what an operation leaves in the cache does.
ALONE = 1 << 17
_dtype, _shape = attrgetter("dtype"), attrgetter("shape")


class Member(NamedTuple):
    """A weight; its entry in the optimizer's state; whose hyperparameters it has; its role, where it is known; its place
    among all weights.
    """

    p: Tensor
    own: dict[str, Any]
    group: int
    role: Any
    place: int


class Arena:
    """One transform for all ``members``, whatever their precision, device, memory format and age.

    State is that of ``member.own``, tensor by tensor, changed in place: nothing is kept here that is not there. ``matches``
    says whether it still is. Numbers of a trial are one tensor that all weights they count for share.
    """

    def __init__(
        self,
        name: str,
        members: Sequence[Member],
        hypers: Hypers,
        techniques: Sequence[str],
        everyone: Iterable[dict[str, Any]],
        state_bits: int = 32,
        known: KnownWeights | None = None,
    ) -> None:
        """``everyone``: the entries of all weights, members or not; what counts for the whole model is under each. ``known``:
        of weights that were gathered before.

        Raises SpecError where a weight has another shape than what is remembered of it, or than its gradient.
        """
        kept, known = Method(name, techniques, state_bits), known or KnownWeights()
        found_of = [known.find(member.p, member.own) for member in members]
        for member, found in zip(members, found_of, strict=True):
            if found is None:
                kept.check_shapes(member.p, member.own, member.role, hypers[member.group])
            else:
                check_gradient(member.p)
        self.members, self.places = members, [member.place for member in members]
        self._sizes = [member.p.numel() for member in members]
        self._forms = [
            WorkingForm(m.p) if found is None else found.form for m, found in zip(members, found_of, strict=True)
        ]
        method = build_transform(name, techniques=techniques, state_bits=state_bits)
        cuts = [self._cut_of(member, found) for member, found in zip(members, found_of, strict=True)]
        # Weights of one group that began at different steps are different groups, unless the method does not count steps, or a
        # kernel is told the step of each.
        ages = [(group, steps) for group, steps, _ in cuts]
        self._ages, self._age_of = _distinct(ages)
        kernels = all(type(member.p) in (Tensor, nn.Parameter) for member in members)
        by_kernel = method.one_pass and kernels and not techniques and state_bits == 32 and _all_on_cpu(members)
        cuts = [(group, 0, own) for group, _, own in cuts] if method.timeless or by_kernel else cuts
        self._cuts, index = _distinct(cuts)
        self._names = [self._name_of(method, at, i) for i, at in enumerate(index)]
        self._places: dict[str, list[int]] = {}
        for i, key in enumerate(self._names):
            self._places.setdefault(key, []).append(i)
        everyone = list(everyone)
        self._averages = not set(AVERAGES).isdisjoint(techniques)
        self._t = self._steps_of_the_model(everyone, members)
        self._late = {n: self._t - taken for n, (_, taken) in zip(self._names, ages, strict=True)}
        self._step_of: dict[str, list[Tensor]] = {}
        self._layout = Layout(
            roles={n: m.role for n, m in zip(self._names, members, strict=True) if m.role is not None},
            groups=dict(zip(self._names, index, strict=True)),
            late=self._late,
            kernels=kernels,
            steps=self._step_of if by_kernel else {},
        )
        self.transform = build_transform(name, self._layout, techniques, state_bits)
        self._plain = all(form.plain for form in self._forms)
        self._as_they_come = all(form.takes_gradients for form in self._forms)
        self._bundled = self._collect([form.working() for form in self._forms]) if self._plain else {}
        self._state = self._restore(everyone, found_of)
        self._begin(hypers, everyone)
        for member, found, form in zip(members, found_of, self._forms, strict=True):
            if found is None:
                known.learn(member.p, member.own, form)
        self._seen = _Seen(members, self._forms, everyone)

    @staticmethod
    def _cut_of(member: Member, found: Known | None) -> tuple[int, int, tuple[Any, ...]]:
        """Group, steps taken, and what is remembered of those steps: which entries, and the numbers that were carried on."""
        own = member.own
        if found is not None:
            return member.group, int(own[STEP]), (found.kept,)
        kept = tuple(sorted(key for key in own if key not in (TRAINED, SHOWN)))
        return member.group, int(own.get(STEP, 0)), (kept, *(float(own[key]) for key in kept if _of_the_group(key)))

    def _name_of(self, method: Transform, group: int, i: int) -> str:
        member, form = self.members[i], self._forms[i]
        bundle = method.bundles(member.role or ("matrix" if member.p.ndim >= 2 else "vector"), form.shape)
        if bundle is None:
            return f"weight{member.place}"
        alone = member.p.is_cpu and member.p.numel() >= ALONE and not method.one_pass
        return f"{group}/{form.dtype}/{member.p.device}/{bundle}" + (f"/{member.place}" if alone else "")

    @staticmethod
    def _steps_of_the_model(everyone: Sequence[dict[str, Any]], members: Sequence[Member]) -> int:
        """Steps so far: those that were counted, else those of the member with most."""
        counted = [int(own[MODEL_STEP]) for own in everyone if MODEL_STEP in own]
        return max(counted or [int(member.own.get(STEP, 0)) for member in members])

    def matches(self, state: dict[Any, Any]) -> bool:
        """Whether weights and their state are still what they were."""
        return self._seen.unchanged(state)

    def resume(self, state: dict[Any, Any]) -> bool:
        """Go on after steps that other weights took, some of these among them. False, and nothing done, where more than the
        weights' own steps has changed, where weights that were of one age are not any more, and where a method counts for the
        whole model.
        """
        if self._numbers or self._averages or not self._seen.but_for_steps(state):
            return False
        ages: dict[int, int] = {}
        for at, member in zip(self._age_of, self.members, strict=True):
            if ages.setdefault(at, age := int(member.own[STEP])) != age:
                return False
        taken = [ages[at] for at in range(len(self._ages))]
        self._t = max(taken)
        self._counters[:] = array("f", (*taken, self._t))
        self._late.update(zip(self._names, (self._t - taken[at] for at in self._age_of), strict=True))
        for at, member in zip(self._age_of, self.members, strict=True):
            member.own[STEP] = self._steps[at]
        self._seen = _Seen(self.members, self._forms, list(state.values()))
        return True

    def step(self, grads: list[Tensor], hypers: Hypers) -> None:
        """One update of all weights from their gradients, which are in the order of ``members``."""
        own = self._own_hypers(hypers)
        params, formed = self._working(), self._formed(grads, own)
        self._t += 1
        counters = self._counters
        for i in range(len(counters)):
            counters[i] += 1
        self.transform.update_(params, formed, self._state, own, self._t)
        if not self._plain:
            self._write(params)
        if self._numbers or self._alone:
            self._keep_in_place()

    def perturb(self, grads: list[Tensor], hypers: Hypers) -> None:
        """Move the weights to where the gradient that counts is taken."""
        assert self.transform.perturb is not None
        own = self._own_hypers(hypers)
        self._write(self.transform.perturb(self._working(), self._formed(grads, own), own))

    def show_answer(self, hypers: Hypers) -> None:
        """Keep the trained weights under their state and put the answer in their place."""
        answer = self.transform.answer(self._working(), self._state, self._own_hypers(hypers))
        for member in self.members:
            member.own[TRAINED] = member.p.detach().clone()
        self._write(answer)
        for member in self.members:
            member.own[SHOWN] = member.p.detach().clone()

    def _own_hypers(self, hypers: Hypers) -> list[Hyper]:
        return [hypers[group] for group, _, _ in self._cuts]

    # State: under each weight as torch keeps it, and by name as the method wants it.

    def _restore(self, everyone: Sequence[dict[str, Any]], found_of: Sequence[Known | None]) -> State:
        trial: Params = {}
        for own in everyone:
            for key in own:
                if _of_the_model(key):
                    trial.setdefault(key.removeprefix(f"{TRIAL}."), _number(own[key]))
        pieces: dict[str, dict[str, list[Tensor]]] = {}
        for name, member, form, found in zip(self._names, self.members, self._forms, found_of, strict=True):
            if found is not None:
                for key, opened in found.opened.items():
                    pieces.setdefault(key, {}).setdefault(name, []).append(opened)
                continue
            for key, value in member.own.items():
                if _of_the_group(key):
                    trial.setdefault(f"{key.removeprefix(f'{TRIAL}.')}{self._layout.group(name)}", _number(value))
                elif key not in (STEP, MODEL_STEP, TRAINED, SHOWN) and not _of_the_model(key):
                    member.own[key] = form.kept(value)
                    pieces.setdefault(key, {}).setdefault(name, []).append(form.opened(member.own[key]))
        state: State = {TRIAL: trial} if trial else {}
        for key, tensors in pieces.items():
            state[key] = {name: self._join(name, own) for name, own in tensors.items()}
        return state

    def _begin(self, hypers: Hypers, everyone: Sequence[dict[str, Any]]) -> None:
        """State of the weights that have none yet, and counters that the weights of a group share."""
        working = self._working()
        fresh = {name for name, member in zip(self._names, self.members, strict=True) if STEP not in member.own}
        if fresh:
            first = {name: p for name, p in working.items() if name in fresh}
            for key, tensors in self.transform.init(first, self._own_hypers(hypers)).items():
                # What counts for the whole model has begun before.
                self._state[key] = {**tensors, **self._state.get(key, {})}
        # In the order in which the method names them: a set's differs from process to process, and with it the bytes of a
        # saved state.
        for key in [key for key in self._state if key != TRIAL]:
            for i, tensor in self._cut(self._state[key]):
                if self._names[i] in fresh:
                    self.members[i].own[key] = self._forms[i].closed(tensor)
        trial = self._state.get(TRIAL, {})
        self._share(trial, everyone)
        self._numbers = dict(trial)
        self._alone = {name: places[0] for name, places in self._places.items() if name.startswith("weight")}

    def _share(self, trial: Params, everyone: Sequence[dict[str, Any]]) -> None:
        """One tensor per counter and number, under every weight that it counts for."""
        # One piece of memory, counted in Python: with cold caches a call of NumPy's or torch's takes ten times as long. The
        # model's own count comes last.
        self._counters = array("f", (*(taken for _, taken in self._ages), self._t))
        *self._steps, model_step = torch.frombuffer(self._counters, dtype=torch.float32).unbind()
        self._step_of.update((n, [self._steps[self._age_of[i]] for i in at]) for n, at in self._places.items())
        of_model = {f"{TRIAL}.{key}": number for key, number in trial.items() if "/" not in key}
        if of_model or self._averages:
            of_model[MODEL_STEP] = model_step
        for name, member, age in zip(self._names, self.members, self._age_of, strict=True):
            group = self._layout.group(name)
            member.own[STEP] = self._steps[age]
            for key, number in trial.items():
                if key.endswith(f"/{group}"):
                    member.own[f"{TRIAL}.{key.removesuffix(str(group))}"] = number
        for own in everyone:
            if STEP in own:
                own.update(of_model)

    def _keep_in_place(self) -> None:
        """A method may answer with new tensors; what lies under the weights stays the same ones."""
        trial = self._state.get(TRIAL, {})
        for key, number in self._numbers.items():
            if trial[key] is not number:
                trial[key] = number.copy_(trial[key])
        for name, i in self._alone.items():
            own, form = self.members[i].own, self._forms[i]
            for key, tensors in self._state.items():
                if key != TRIAL and name in tensors and tensors[name] is not form.opened(own[key]):
                    tensors[name] = form.opened(own[key]).copy_(tensors[name])

    # Weights and gradients, in the form in which they are worked on.

    def _working(self) -> Params:
        return self._bundled if self._plain else self._collect([form.working() for form in self._forms])

    def _formed(self, grads: list[Tensor], hypers: Hypers) -> Params:
        # Fused kernels read as much memory as the weight has.
        if list(map(Tensor.numel, grads)) != self._sizes:
            raise SpecError("a gradient has another shape than its weight", code="shape_mismatch")
        if not (self._as_they_come and all(map(Tensor.is_contiguous, grads))):
            grads = [form.gradient(g) for form, g in zip(self._forms, grads, strict=True)]
        if True in [hyper["maximize"] for hyper in hypers]:
            up = [hypers[self._layout.group(name)]["maximize"] for name in self._names]
            grads = [-g if flipped else g for g, flipped in zip(grads, up, strict=True)]
        return self._collect(grads)

    def _write(self, params: Params) -> None:
        changed = [(i, new) for i, new in self._cut(params) if new is not self.members[i].p]
        real = [(self.members[i].p, new) for i, new in changed if self._forms[i].real]
        if real:
            targets, sources = zip(*real, strict=True)
            private.foreach_copy_(list(targets), list(sources))
        for i, new in changed:
            if not self._forms[i].real:
                self._forms[i].write(new)

    def _collect(self, tensors: Sequence[Tensor]) -> Params:
        return {name: self._join(name, [tensors[i] for i in places]) for name, places in self._places.items()}

    @staticmethod
    def _join(name: str, pieces: list[Tensor]) -> Any:
        return pieces[0] if name.startswith("weight") else Bundle(pieces)

    def _cut(self, tensors: Params) -> Iterable[tuple[int, Tensor]]:
        """(place, its tensor), for the weights that the method keeps one of."""
        for name, whole in tensors.items():
            pieces = whole.tensors if isinstance(whole, Bundle) else [whole]
            yield from zip(self._places[name], pieces, strict=True)


def _distinct(rows: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The rows without repetitions, and for each which of them it is."""
    places: dict[Any, int] = {}
    index = [places.setdefault(row, len(places)) for row in rows]
    return list(places), index


def _all_on_cpu(members: Sequence[Member]) -> bool:
    return all(member.p.is_cpu for member in members)


def _of_the_model(key: str) -> bool:
    return key.startswith(f"{TRIAL}.") and not key.endswith("/")


def _of_the_group(key: str) -> bool:
    return key.startswith(f"{TRIAL}.") and key.endswith("/")


def _number(value: Any) -> Tensor:
    return torch.tensor(float(value), dtype=torch.float64)


class _Seen:
    """What weights and state were when they were gathered, to be compared with what they are at a few dozen ns a tensor."""

    def __init__(
        self, members: Sequence[Member], forms: Sequence[WorkingForm], everyone: Sequence[dict[str, Any]]
    ) -> None:
        self._weights = [member.p for member in members]
        self._contiguous = [member.p for member, form in zip(members, forms, strict=True) if form.plain]
        self._dtypes, self._device = list(map(_dtype, self._weights)), self._weights[0].device
        self._shapes = list(map(_shape, self._weights))
        self._everyone = everyone
        self._own = [member.own for member in members]
        self._entries = list(chain.from_iterable(map(dict.values, self._own)))
        self._keys = list(chain.from_iterable(self._own))

    def unchanged(self, state: dict[Any, Any]) -> bool:
        """Whether each is still the same object, of the same shape and precision and as contiguous as before; a model moves to
        another device as a whole.
        """
        own = self._own
        return (
            len(state) == len(self._everyone)
            and all(map(is_, state.values(), self._everyone))
            and sum(map(len, own)) == len(self._entries)
            and all(map(is_, chain.from_iterable(map(dict.values, own)), self._entries))
            and self._alike()
        )

    def but_for_steps(self, state: dict[Any, Any]) -> bool:
        """As ``unchanged``, whatever others there are by now, and however many steps each has taken."""
        return (
            all(map(is_, map(state.get, self._weights), self._own))
            and [key for own in self._own for key in own] == self._keys
            and all(
                now is before or key == STEP
                for now, before, key in zip(
                    chain.from_iterable(map(dict.values, self._own)), self._entries, self._keys, strict=True
                )
            )
            and self._alike()
        )

    def _alike(self) -> bool:
        return (
            list(map(_dtype, self._weights)) == self._dtypes
            and list(map(_shape, self._weights)) == self._shapes
            and self._weights[0].device == self._device
            and all(map(Tensor.is_contiguous, self._contiguous))
        )
