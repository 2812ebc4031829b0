"""Trials one by one: a plain forward and backward each, on views of the stacked weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from optim_core.vmapped.alone import Streams, streams_kept, trial_among
from optim_core.vmapped.batch_tree import of_trial, tensors_of, with_tensors
from optim_core.vmapped.binding import Binding
from optim_core.vmapped.draws import Draws
from optim_core.vmapped.form import LossOf, OutputsOf, Weights, is_out_of_memory
from optim_core.vmapped.torch_private import copy_all_

# What is random in evaluation is so for all trials and all times alike.
EVALUATION_SEED, EVALUATION_STEP = 0, -1
# Weights so large, or not finite, belong to a trial that has diverged: a few layers of them are beyond what a float holds.
BLOWN_UP = 1e6


class Looped:
    """See ``form.ModuleForm``. Whatever autograd can do works.

    Each trial has a module of its own, so that what a module keeps in Python (a counter, a hidden state) is the trial's.
    ``build(seed)`` makes the module of a trial's seed, with whatever it draws beside weights and buffers; without it the
    skeleton is copied. Weights keep their place in memory from step to step, or the modules are bound anew.
    """

    def __init__(self, skeleton: nn.Module, loss_of: LossOf, build: Callable[[int], nn.Module] | None = None) -> None:
        self._skeleton, self._loss_of, self._build = skeleton, loss_of, build
        self._alone: list[_Alone] = []
        self.unused: dict[str, Tensor] = {}
        self.errors: dict[int, Exception] = {}

    def losses(
        self,
        weights: Weights,
        buffers: Weights,
        batch: Any,
        slots: Weights,
        *,
        shared: bool,
        seeds: Sequence[int],
        step: int,
    ) -> Tensor:
        """See ``form.ModuleForm``."""
        trials = self._bound(weights, buffers, seeds, slots)
        like = next(iter(weights.values()))
        draws = Draws(seeds, step, like.device).one_by_one()
        found: list[Tensor] = []
        self.unused, self.errors = {}, {}
        with streams_kept() as streams:
            for k, trial in enumerate(trials):
                try:
                    loss = trial.loss(self._loss_of, of_trial(batch, k, shared=shared), streams, draws[k])
                    gradients = torch.autograd.grad(loss, trial.parameters, allow_unused=True)
                except Exception as error:
                    if is_out_of_memory(error):
                        raise
                    self.errors[k] = error
                    found.append(like.new_full((), torch.nan))
                    for slot in trial.slots.values():
                        slot.fill_(torch.nan)
                    continue
                finally:
                    trial.take_buffers()
                found.append(loss.detach())
                self._write(trial, k, len(trials), gradients)
        self._raise_what_all_raise(weights, len(trials))
        dtype = next((loss.dtype for k, loss in enumerate(found) if k not in self.errors), like.dtype)
        return torch.stack([loss.to(dtype) for loss in found])

    def outputs(
        self,
        outputs_of: OutputsOf,
        weights: Weights,
        buffers: Weights,
        batch: Any,
        *,
        shared: bool,
        seeds: Sequence[int] | None = None,
    ) -> Any:
        """See ``form.ModuleForm``."""
        count = len(next(iter(weights.values())))
        # Evaluation may write into buffers, so it gets others.
        own = {name: b.clone() for name, b in buffers.items()}
        trials = self._bound(weights, own, [None] * count if seeds is None else seeds)
        found: list[Any] = []
        device = next(iter(weights.values())).device
        with torch.no_grad(), streams_kept() as streams:
            for k, trial in enumerate(trials):
                with evaluating(trial.module):
                    draws = Draws([EVALUATION_SEED], EVALUATION_STEP, device)
                    with trial_among(streams, draws):
                        found.append(outputs_of(trial.module, of_trial(batch, k, shared=shared)))
        columns = zip(*(tensors_of(one) for one in found), strict=True)
        return with_tensors(found[0], [torch.stack(column) for column in columns])

    def keep(self, trials: Sequence[int]) -> None:
        """See ``form.ModuleForm``."""
        self._alone = [self._alone[k] for k in trials if k < len(self._alone)]

    def _bound(
        self, weights: Weights, buffers: Weights, seeds: Sequence[int | None], slots: Weights | None = None
    ) -> list[_Alone]:
        for k, seed in enumerate(seeds):
            if k == len(self._alone):
                self._alone.append(self._new(seed))
            elif self._build is not None and seed is not None and self._alone[k].seed != seed:
                self._alone[k] = self._new(seed)
            self._alone[k].bind(weights, buffers, slots or {}, k)
        return self._alone[: len(seeds)]

    def _new(self, seed: int | None) -> _Alone:
        if self._build is None or seed is None:
            return _Alone(copied(self._skeleton), None)
        return _Alone(self._build(seed), seed)

    def _write(self, trial: _Alone, k: int, count: int, gradients: Sequence[Tensor | None]) -> None:
        into: list[Tensor] = []
        values: list[Tensor] = []
        for name, gradient in zip(trial.binding.trained, gradients, strict=True):
            slot = trial.slots[name]
            if gradient is None:
                slot.zero_()
                mask = self.unused.setdefault(name, torch.zeros(count, dtype=torch.bool, device=slot.device))
                mask[k] = True
            else:
                into.append(slot)
                values.append(gradient)
        copy_all_(into, values)

    def _raise_what_all_raise(self, weights: Weights, count: int) -> None:
        """An error of the person's code hits every trial at the same place. Where weights have blown up, it is their fault."""
        if len(self.errors) < count or len({_place_of(error) for error in self.errors.values()}) > 1:
            return
        if all(bool((w.abs() < BLOWN_UP).all()) for w in weights.values() if w.is_floating_point()):
            raise next(iter(self.errors.values()))


class _Alone:
    """One trial's module, whose weights and buffers are rows of the stacked ones. ``slots``: rows of where gradients go."""

    def __init__(self, module: nn.Module, seed: int | None) -> None:
        self.module, self.seed = module, seed
        self.binding = Binding(module)
        self._own = dict(module.named_parameters())
        self.parameters = [self._own[name] for name in self.binding.trained]
        self.slots: dict[str, Tensor] = {}
        self._buffers: dict[str, Tensor] = {}
        # What the rows are of: where nothing has moved since the last step, nothing is bound anew.
        self._of: dict[str, list[Tensor]] = {}

    def bind(self, weights: Weights, buffers: Weights, slots: Weights, k: int) -> None:
        """Row ``k`` is this trial's from now on."""
        if self._moved("weights", [weights[name] for name in self._own]):
            for name, own in self._own.items():
                own.data = weights[name].detach()[k]
        if self._moved("slots", [slots[name] for name in self.binding.trained] if slots else []):
            self.slots = {name: slots[name][k] for name in self.binding.trained} if slots else {}
        if self._moved("buffers", [buffers[name] for name in self.binding.buffers]):
            self._buffers = {name: buffers[name].detach()[k] for name in self.binding.buffers}
        self.binding.put_buffers(self._buffers)

    def _moved(self, what: str, now: list[Tensor]) -> bool:
        before = self._of.get(what)
        self._of[what] = now
        return before is None or len(before) != len(now) or any(a is not b for a, b in zip(before, now, strict=True))

    def loss(self, loss_of: LossOf, batch: Any, streams: Streams, draws: Draws) -> Tensor:
        """The loss, with its graph."""
        self.binding.train()
        with torch.enable_grad(), trial_among(streams, draws):
            return scalar(loss_of(self.module, batch))

    def take_buffers(self) -> None:
        """Write what the module assigned into the rows, and give the rows back to it."""
        with torch.no_grad():
            for name, now in self.binding.replaced(self._buffers).items():
                self._buffers[name].copy_(now)
        self.binding.put_buffers(self._buffers)


def scalar(loss: Any) -> Tensor:
    """The loss as a tensor without axes; refused if it is something else."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise TypeError(f"the loss must be one number as a tensor, but it is {what}")
    return loss.reshape(())


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Inside, everything is in evaluation mode; afterwards each part is in the mode that it was in."""
    before = [(inner, inner.training) for inner in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for inner, training in before:
            inner.training = training


def copied(module: nn.Module) -> nn.Module:
    """A module like this one, which shares nothing with it. Hooks on weights go along."""
    memo: dict[int, Any] = {}
    for inner in module.modules():
        for value in vars(inner).values():
            # What a weight was calculated into cannot be copied with its graph, and is calculated again anyway.
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    new = copy.deepcopy(module, memo)
    for old, own in zip(module.parameters(), new.parameters(), strict=True):
        for hook in (old._backward_hooks or {}).values():
            own.register_hook(hook)
    return new


def _place_of(error: Exception) -> tuple[type, str, int]:
    """Kind of the error, and the line of the innermost frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return type(error), trace.tb_frame.f_code.co_filename if trace else "", trace.tb_lineno if trace else 0
