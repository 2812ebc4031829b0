"""A person's module, K trials at a time where that was proven equal, else one after the other. See ``forward.Forward``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optim_core.engine.blocks import Weights
from optim_core.engine.loss_module import LossModule
from optim_core.engine.loss_scales import LossScales
from optim_core.engine.norms import MEASURED_ROWS, measure
from optim_core.own.task import OwnTask
from optim_core.own.trees import map_tree
from optim_core.own.user_code import calling_user_code
from optim_core.spec.trial import Form, TrialParams
from optim_core.vmapped import Looped, ModuleForm, one_trial


class ModuleForward:
    """``shared``: all trials see each batch that is read; else each has rows of its own, read side by side."""

    def __init__(
        self, task: OwnTask, skeleton: nn.Module, trials: Sequence[TrialParams], form: Form, *, shared: bool
    ) -> None:
        self._task, self._skeleton, self._shared = task, skeleton, shared
        self._seeds = [trial.seed for trial in trials]

        self._form: ModuleForm = (
            task.proof.form(
                skeleton,
                task.loss_on,
                task.make_model,
                shared=shared,
                recordings=task.recordings if form.flat else None,
            )
            if form.engine == "batched"
            else Looped(skeleton, task.loss_on, task.make_model)
        )
        self._frozen = {name for name, p in skeleton.named_parameters() if not p.requires_grad}
        self._step = 0
        self.unused: Weights = {}
        scaled = task.spec.training.precision == "fp16"
        self.scales = LossScales(len(trials), task.device) if scaled else None
        self.overflowed: Tensor | None = None
        # Batches of a step, whose gradients are averaged.
        self._pieces = min(task.spec.training.grad_accumulation, task.batch_size)
        self._ahead: Iterator[Any] = iter(())
        self._batches: list[Any] = []

    def begin(self, first: int, last: int, rows: Callable[[int], Tensor]) -> None:
        """See ``Forward``: the batches of these steps are read ahead of time."""
        own = (rows(step)[0] if self._shared else rows(step) for step in range(first, last))
        pieces = (piece for some in own for piece in some.tensor_split(self._pieces, dim=-1))
        self._ahead = self._task.batches(pieces, first * self._pieces)

    def at(self, step: int, buffers: Weights) -> None:
        """See ``Forward``."""
        del buffers
        self._step, self._batches = step, [next(self._ahead) for _ in range(self._pieces)]
        if self.scales is not None:
            self.overflowed = torch.zeros(len(self._seeds), dtype=torch.bool, device=self._task.device)

    def losses(self, weights: Weights, buffers: Weights, rows: Tensor, slots: Weights, span: slice) -> Tensor:
        """See ``Forward``. The rows are those of the step, so a second look at them reads nothing."""
        del rows
        seeds = self._seeds[span]
        weights, buffers = self._sorted(weights, buffers)
        # As people write it: the loss of each piece is divided by how many there are.
        scales = None if self.scales is None else self.scales.scale[span] / self._pieces
        losses, sums = [], {}
        for i, batch in enumerate(self._batches):
            whole = self._shared or span == slice(None)
            own = batch if whole else map_tree(lambda t: t[span], batch)
            step = self._step * self._pieces + i
            with calling_user_code():
                found = self._form.losses(
                    weights, buffers, own, slots, shared=self._shared, seeds=seeds, step=step, scales=scales
                )
            losses.append(found)
            now = self._form.unused
            # Used for one of the batches is used.
            self.unused = now if i == 0 else {name: x & now[name] for name, x in self.unused.items() if name in now}
            if self._pieces > 1:
                sums = {name: g.clone() if i == 0 else sums[name].add_(g) for name, g in slots.items()}
        for name, total in sums.items():
            slots[name].copy_(total.div_(self._pieces))
        if self.scales is not None:
            self._unscale(self.scales, slots, span)
        return losses[0] if self._pieces == 1 else torch.stack(losses).mean(0)

    def _unscale(self, scales: LossScales, slots: Weights, span: slice) -> None:
        """Gradients as they are without a scale. Some methods look twice a step: one overflow is enough to skip it."""
        assert self.overflowed is not None
        self.overflowed[span] |= scales.unscale_(slots, span, self._pieces)

    def outputs(self, weights: Weights, buffers: Weights, batch: Any) -> Any:
        """See ``Forward``: what the task's judge wants to know of a batch."""
        with calling_user_code():
            return self._form.outputs(self._task.judge.of, *self._sorted(weights, buffers), batch, shared=True)

    def _sorted(self, weights: Weights, buffers: Weights) -> tuple[Weights, Weights]:
        """Frozen weights, which the pack holds as constants, are parameters of the module all the same."""
        if not self._frozen:
            return weights, buffers
        frozen = {name: buffers[name] for name in self._frozen}
        return {**weights, **frozen}, {name: b for name, b in buffers.items() if name not in self._frozen}

    def measure(self, weights: Weights, buffers: Weights) -> None:
        """See ``Forward``."""
        batch = self._task.batch(torch.arange(min(MEASURED_ROWS, self._task.rows["train"])))
        losses = LossModule(self._task, self._skeleton)
        for k, seed in enumerate(self._seeds):
            own = {name: x[k] for name, x in {**weights, **buffers}.items()}
            with torch.no_grad(), measure(self._skeleton), one_trial(seed, self._step, self._task.device):
                losses.at(own, batch)
