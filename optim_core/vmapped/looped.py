"""Trials one by one: a plain forward and backward each, on views of the stacked weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from optim_core.vmapped.alone import plain_checkpoints, trial_among
from optim_core.vmapped.batch_tree import Copies, of_trial, tensors_of, with_tensors
from optim_core.vmapped.binding import Binding
from optim_core.vmapped.draws import Draws
from optim_core.vmapped.form import LossOf, OutputsOf, Refused, Weights, is_out_of_memory
from optim_core.vmapped.habits import Habits
from optim_core.vmapped.streams import Marks, Streams, streams_kept
from optim_core.vmapped.torch_private import copy_all_, version
from optim_core.vmapped.trial_mode import TrialMode

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
        # What the modules' weights, buffers and slots are rows of.
        self._rows_of: list[Tensor] = []
        self._habits = Habits()
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
        scales: Tensor | None = None,
    ) -> Tensor:
        """See ``form.ModuleForm``."""
        trials = self._bound(weights, buffers, seeds, slots)
        device = next(iter(weights.values())).device

        def stepped(streams: Streams | None) -> Tensor:
            copies = Copies(batch, shared=shared, once=self._habits.known and not self._habits.writes)
            return self._step(trials, copies, Draws(seeds, step, device).one_by_one(), streams, scales)

        found = self._without_streams(trials, buffers, stepped) if self._habits.is_quiet else None
        if found is None:
            with streams_kept() as streams:
                found = stepped(streams)
            if not self._habits.known:
                self._habits.count(trials[0].module)
        self._raise_what_all_raise(weights, len(trials))
        return found

    def _without_streams(
        self, trials: Sequence[_Alone], buffers: Weights, stepped: Callable[[None], Tensor]
    ) -> Tensor | None:
        """The step of a module that has never drawn from a stream. No result where it now has, and all is as it was before."""
        before, marks = {name: b.clone() for name, b in buffers.items()}, Marks()
        versions = _versions(trials)
        found = stepped(None)
        if not marks.moved():
            return found
        marks.restore()
        self._habits.uses_streams = True
        if versions != _versions(trials):
            raise Refused("its forward writes into its weights, in a step that has to be done again")
        for name, b in before.items():
            buffers[name].copy_(b)
        return None

    def _step(
        self,
        trials: Sequence[_Alone],
        copies: Copies,
        draws: Sequence[Draws],
        streams: Streams | None,
        scales: Tensor | None,
    ) -> Tensor:
        """(K,) losses. ``streams``: to be seeded for each trial, where they have to be."""
        habits, found = self._habits, []
        self.unused, self.errors = {}, {}
        with torch.enable_grad(), plain_checkpoints():
            for k, (trial, own) in enumerate(zip(trials, draws, strict=True)):
                batch = copies.of(k)
                if streams is not None:
                    streams.seed(own.keys[0])
                marks = None if habits.known else Marks()
                versions = _versions([trial])
                try:
                    loss = trial.loss(self._loss_of, batch, own if streams is not None or habits.draws else None)
                    scale = None if scales is None else scales[k].to(loss.dtype)
                    gradients = torch.autograd.grad(loss, trial.parameters, scale, allow_unused=True)
                    found.append(loss.detach())
                except Exception as error:
                    if is_out_of_memory(error):
                        raise
                    self.errors[k] = error
                    found.append(None)
                    for slot in trial.slots:
                        slot.fill_(torch.nan)
                    continue
                finally:
                    trial.take_buffers()
                    if marks is not None:
                        habits.see(marks, own, copies.written(), versions != _versions([trial]))
                self._write(trial, k, len(trials), gradients)
        like = next((loss for loss in found if loss is not None), trials[0].parameters[0].new_empty(()))
        return torch.stack([like.new_full((), torch.nan) if loss is None else loss.to(like.dtype) for loss in found])

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
                draws = Draws([EVALUATION_SEED], EVALUATION_STEP, device)
                with evaluating(trial.module), trial_among(streams, draws):
                    found.append(outputs_of(trial.module, of_trial(batch, k, shared=shared)))
        columns = zip(*(tensors_of(one) for one in found), strict=True)
        return with_tensors(found[0], [torch.stack(column) for column in columns])

    def keep(self, trials: Sequence[int]) -> None:
        """See ``form.ModuleForm``."""
        self._alone = [self._alone[k] for k in trials if k < len(self._alone)]
        self._rows_of = []

    def _bound(
        self, weights: Weights, buffers: Weights, seeds: Sequence[int | None], slots: Weights | None = None
    ) -> list[_Alone]:
        rows_of = [*weights.values(), *buffers.values(), *(slots or {}).values()]
        same = len(rows_of) == len(self._rows_of) and all(map(is_, rows_of, self._rows_of))
        for k, seed in enumerate(seeds):
            new = k >= len(self._alone)
            if new:
                self._alone.append(self._new(seed))
            elif self._build is not None and seed is not None and self._alone[k].seed != seed:
                self._alone[k], new = self._new(seed), True
            if new or not same:
                self._alone[k].bind(weights, buffers, slots or {}, k)
        # Held, so that nothing else can take their place in memory.
        self._rows_of = rows_of
        return self._alone[: len(seeds)]

    def _new(self, seed: int | None) -> _Alone:
        if self._build is None or seed is None:
            return _Alone(copied(self._skeleton), None)
        return _Alone(self._build(seed), seed)

    def _write(self, trial: _Alone, k: int, count: int, gradients: Sequence[Tensor | None]) -> None:
        into, values = [], []
        for name, slot, gradient in zip(trial.binding.trained, trial.slots, gradients, strict=True):
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
        self.slots: list[Tensor] = []
        self._buffers: dict[str, Tensor] = {}

    def bind(self, weights: Weights, buffers: Weights, slots: Weights, k: int) -> None:
        """Row ``k`` is this trial's from now on."""
        for name, own in self._own.items():
            own.data = weights[name].detach()[k]
        self.slots = [slots[name][k] for name in self.binding.trained] if slots else []
        self._buffers = {name: buffers[name].detach()[k] for name in self.binding.buffers}
        self.binding.put_buffers(self._buffers)

    def loss(self, loss_of: LossOf, batch: Any, draws: Draws | None) -> Tensor:
        """The loss, with its graph. ``draws``: what torch's random functions give, where they are called."""
        self.binding.train()
        with nullcontext() if draws is None else TrialMode(draws):
            return scalar(loss_of(self.module, batch))

    def take_buffers(self) -> None:
        """Write what the module assigned into the rows, and give the rows back to it."""
        replaced = self.binding.replaced(self._buffers)
        if replaced:
            with torch.no_grad():
                for name, now in replaced.items():
                    self._buffers[name].copy_(now)
            self.binding.put_buffers(self._buffers)


def _versions(trials: Sequence[_Alone]) -> list[int]:
    return [version(p) for trial in trials for p in trial.parameters]


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
            if isinstance(value, Tensor) and (fleeting := _fleeting(value)) is not None:
                memo[id(value)] = fleeting
    new = copy.deepcopy(module, memo)
    for old, own in zip(module.parameters(), new.parameters(), strict=True):
        for hook in (old._backward_hooks or {}).values():
            own.register_hook(hook)
    return new


def _fleeting(value: Tensor) -> Tensor | None:
    """What a copy holds instead of a tensor that a forward pass left behind, which cannot be copied with its graph and is made
    anew by the next one: its numbers, or where a hook has kept it beyond its own ``vmap``, none. None for any other tensor.
    """
    try:
        value.data_ptr()
    except RuntimeError:
        return torch.empty(0, dtype=value.dtype)
    return None if value.is_leaf else value.detach().clone()


def _place_of(error: Exception) -> tuple[type, str, int]:
    """Kind of the error, and the line of the innermost frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return type(error), trace.tb_frame.f_code.co_filename if trace else "", trace.tb_lineno if trace else 0
