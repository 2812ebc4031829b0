"""From a rule for one weight to a method for a whole model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from optim_core.transforms.arithmetic import Array, zeros_like
from optim_core.transforms.base import (
    TRIAL,
    Builder,
    Bundling,
    Hyper,
    Hypers,
    Layout,
    Numbers,
    Own,
    Params,
    Role,
    Scalar,
    State,
    Transform,
    all_alike,
    all_per_trial,
    pure,
    start_of_trial,
)
from optim_core.transforms.bundle import Bundle
from optim_core.transforms.kernels import Kernel
from optim_core.transforms.stacks import start_each, update_each

# (hyperparameters, step counted from 1) → every number that all weights of a group share: floats or (K,) float64.
NumbersOf = Callable[[Hyper, int], Numbers]
# The same for methods that carry numbers from step to step; ``last`` holds their values after the step before.
CarriedNumbersOf = Callable[[Hyper, int, Mapping[str, Scalar]], Numbers]
# One weight: (parameter, gradient, its own state, those numbers ready to broadcast). Changes parameter and state in place.
Rule = Callable[[Array, Array, Own, Mapping[str, Scalar]], None]
# The same for rules that reduce over a weight's own axes; the last argument is the number of axes in front of them.
TensorRule = Callable[[Array, Array, Own, Mapping[str, Scalar], int], None]
# (weight, hyperparameters, axes in front) → what is remembered of it before the first step.
Start = Callable[[Array, Hyper, int], Own]


def zeros(*names: str) -> Start:
    """State tensors of the weight's shape that start at zero."""

    def start(p: Array, hyper: Hyper, lead: int) -> Own:
        del hyper, lead
        return {name: zeros_like(p) for name in names}

    return start


def of_each(start: Start) -> Start:
    """``start`` for the weights of a bundle, one by one."""

    def of_any(p: Array, hyper: Hyper, lead: int) -> Own:
        if not isinstance(p, Bundle):
            return start(p, hyper, lead)
        each = [start(x, hyper, lead) for x in p.tensors]
        return {key: Bundle(own[key] for own in each) for key in each[0]}

    return of_any


def elementwise(start: Start, numbers: NumbersOf, rule: Rule, kernel: Kernel | None = None) -> Builder:
    """A method that treats every number of every weight alike. ``kernel``: what does the same to a bundle, faster."""
    return lambda layout: _Lifted(layout, start, lambda h, t, _: numbers(h, t), _plain(rule), (), kernel).transform(
        all_alike
    )


def timeless(builder: Builder) -> Builder:
    """Of a method whose numbers are the same at every step: weights of any age may be bundled."""
    return lambda layout: builder(layout)._replace(timeless=True)


def carrying(start: Start, numbers: CarriedNumbersOf, rule: Rule, carried: tuple[str, ...]) -> Builder:
    """The same with numbers per trial that live from step to step: those of ``numbers`` whose names are in ``carried``.

    ``numbers`` finds zeros in their place at the first step.
    """
    return lambda layout: _Lifted(layout, start, numbers, _plain(rule), carried).transform(all_alike)


def per_tensor(start: Start, numbers: NumbersOf, rule: TensorRule, bundles: Bundling | None = None) -> Builder:
    """A method whose rule depends on a weight's shape or norms, those of each matrix of a stack. ``bundles``: which weights
    the rule also takes bundled.
    """
    return lambda layout: _Lifted(layout, start, lambda h, t, _: numbers(h, t), rule, (), by_matrix=True).transform(
        bundles
    )


def stacking(rule: TensorRule) -> TensorRule:
    """The rule for bundles of one shape besides: they are stacked, and what leads is then the axis of weights.

    As many at a time as fit into little memory: a stack is a copy, and large weights gain nothing from it.
    """

    def of_any(p: Array, g: Array, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
        if not isinstance(p, Bundle):
            rule(p, g, s, n, lead)
            return
        for part in p.parts(sum(x.tensors[0].numel() for x in (p, g, *s.values()))):
            # One weight is no stack.
            of_one = part.stop - part.start == 1
            whole, wholes = p.stacked(part), {key: x.stacked(part) for key, x in s.items()}
            rule(whole, g.stacked(part), wholes, n, lead if of_one else 1)
            p.unstack_(whole, part)
            for key, x in s.items():
                x.unstack_(wholes[key], part)

    return of_any


def split(matrices: Builder, others: Builder, fits: Callable[[Role, tuple[int, ...]], bool]) -> Builder:
    """``matrices`` for the weights whose role and own shape fit, ``others`` for the rest."""

    def build(layout: Layout) -> Transform:
        parts = matrices(layout), others(layout)

        def cut(params: Params) -> tuple[Params, Params]:
            chosen = {n: p for n, p in params.items() if fits(layout.role(n, p), tuple(p.shape[layout.lead :]))}
            return chosen, {n: p for n, p in params.items() if n not in chosen}

        def init(params: Params, hypers: Hypers) -> State:
            merged: State = {}
            for part, own in zip(parts, cut(params), strict=True):
                for key, tensors in part.init(own, hypers).items() if own else ():
                    merged.setdefault(key, {}).update(tensors)
            return merged

        def update_(params: Params, grads: Params, state: State, hypers: Hypers, t: int) -> None:
            for part, own in zip(parts, cut(params), strict=True):
                if own:
                    part.update_(own, grads, state, hypers, t)

        def bundles(role: Role, shape: tuple[int, ...]) -> str | None:
            which = 0 if fits(role, shape) else 1
            key = parts[which].bundles(role, shape)
            return None if key is None else f"{which}:{key}"

        return Transform(init, pure(update_), update_, bundles=bundles)

    return build


def _without_stacks(bundles: Bundling) -> Bundling:
    return lambda role, shape: None if role == "stack" else bundles(role, shape)


def _plain(rule: Rule) -> TensorRule:
    return lambda p, g, s, n, lead: rule(p, g, s, n)


class _Lifted:
    """Numbers are worked out once per step and group, not once per weight: small networks spend their time on calls."""

    def __init__(
        self,
        layout: Layout,
        start: Start,
        numbers: CarriedNumbersOf,
        rule: TensorRule,
        carried: tuple[str, ...],
        kernel: Kernel | None = None,
        by_matrix: bool = False,
    ) -> None:
        self.layout, self.start, self.numbers, self.rule, self.carried = layout, start, numbers, rule, carried
        self.kernel, self.by_matrix = kernel, by_matrix
        self._by_kernel: dict[str, bool] = {}

    def transform(self, bundles: Bundling | None) -> Transform:
        one_pass = self.kernel is not None
        method = Transform(
            self.init, pure(self.update_), self.update_, shape_free=not self.by_matrix, one_pass=one_pass
        )
        if bundles is None:
            return method
        return method._replace(bundles=_without_stacks(bundles) if self.by_matrix else bundles)

    def _front(self, name: str, p: Array) -> int:
        """Axes in front of those that the rule looks at."""
        return self.layout.front(name, p) if self.by_matrix else self.layout.lead

    def init(self, params: Params, hypers: Hypers) -> State:
        lead, state = self.layout.lead, {}
        for name, p in params.items():
            hyper, front = hypers[self.layout.group(name)], self._front(name, p)
            own = start_each(self.start, p, hyper, front) if front > lead else self.start(p, hyper, lead)
            for key, tensor in own.items():
                state.setdefault(key, {})[name] = tensor
        if self.carried:
            groups = sorted({self.layout.group(name) for name in params})
            state[TRIAL] = {f"{key}/{group}": start_of_trial(params, lead) for group in groups for key in self.carried}
        return state

    def update_(self, params: Params, grads: Params, state: State, hypers: Hypers, t: int) -> None:
        shared: dict[int, Numbers] = {}
        shaped: dict[tuple[int, int, torch.dtype], Numbers] = {}
        keys = [key for key in state if key != TRIAL]
        for name, p in params.items():
            group = self.layout.group(name)
            if self.kernel and self._has_kernel(self.kernel, name, p):
                self._in_one_pass(self.kernel, name, p, grads[name], state, hypers[group], t)
                continue
            if group not in shared:
                shared[group] = self._numbers(hypers[group], self.layout.age(name, t), state, group)
            n = shared[group]
            own = {key: state[key][name] for key in keys if name in state[key]}
            if (front := self._front(name, p)) > self.layout.lead:
                update_each(self.rule, p, grads[name], own, n, front)
                continue
            if self.layout.batched:
                kind = (group, p.ndim, p.dtype)
                if kind not in shaped:
                    shaped[kind] = all_per_trial(n, p)  # type: ignore[arg-type]
                n = shaped[kind]
            self.rule(p, grads[name], own, n, self.layout.lead)
            for key, tensor in own.items():
                state[key][name] = tensor

    def _has_kernel(self, kernel: Kernel, name: str, p: Array) -> bool:
        """Whether ``kernel`` takes the weights of that name; asked once, since naming a device takes as long as ten weights."""
        if name not in self._by_kernel:
            takes = self.layout.kernels and isinstance(p, Bundle) and p.device.type in kernel.devices
            self._by_kernel[name] = takes
        return self._by_kernel[name]

    def _in_one_pass(self, kernel: Kernel, name: str, p: Bundle, g: Bundle, state: State, hyper: Hyper, t: int) -> None:
        held = [state[key][name].tensors for key in kernel.keys]
        steps = self.layout.steps.get(name)
        if steps is None:
            own = torch.tensor(float(self.layout.age(name, t)), device=p.device) if kernel.counts else None
            steps = [] if own is None else [own] * len(p.tensors)
        if initial := float(hyper.get("initial_accumulator_value", 0.0)):
            for total, step in zip(state["sum"][name].tensors, steps, strict=True):
                if float(step) == 1:
                    total.add_(initial)
        kernel.step(p.tensors, g.tensors, held, steps, float(hyper["lr"]), float(hyper["weight_decay"]), hyper)
        # Fused kernels do not say that they have written, and a graph from before the step would use what is there now.
        increment_version(p.tensors)

    def _numbers(self, hyper: Hyper, t: int, state: State, group: int) -> Numbers:
        """The group's numbers; those that are carried on are stored. Of a single run all are floats."""
        if not self.layout.batched:
            hyper = {key: float(value) if isinstance(value, Tensor) else value for key, value in hyper.items()}
        held = {key: state[TRIAL][f"{key}/{group}"] for key in self.carried}
        last = held if self.layout.batched else {key: float(value) for key, value in held.items()}
        n = self.numbers(hyper, t, last)
        for key in self.carried:
            value = n[key]
            state[TRIAL][f"{key}/{group}"] = value if isinstance(value, Tensor) else torch.full_like(held[key], value)
        return n
