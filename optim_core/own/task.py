"""A person's model and data as a task of a study: what an engine trains, and who judges it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from optim_core.own.calls import Call
from optim_core.own.judge import OwnJudge
from optim_core.own.kinds import Reading
from optim_core.own.losses import Loss, NamedLoss
from optim_core.own.measures import Measure
from optim_core.own.models import Models
from optim_core.own.own_metric import OwnMetric
from optim_core.own.precision import autocast
from optim_core.own.splits import Splits
from optim_core.own.trees import leaves
from optim_core.own.user_code import calling_user_code
from optim_core.spec.errors import SpecError
from optim_core.spec.keys import derive_seed
from optim_core.spec.problem import MAXIMISED, StudySpec
from optim_core.tasks.common import objective
from optim_core.tasks.teacher import difficulty
from optim_core.vmapped import Proof, Recordings, prove

# Rows that show what batches, outputs and targets look like: a number that no usual axis has.
EXAMPLE_ROWS = 7
_TASKS = {"classes": "classification", "binary": "classification", "number": "regression"}


@dataclass(frozen=True)
class OwnTask:
    """See ``tasks.task.Task``. Made by ``source.OwnSource``.

    ``metric``: as row scores of that kind are read, ``score`` or ``error`` for a function; ``shown_metric``: as a person calls
    it. ``y_scale``: deviation of the training targets, of one number a sample.
    """

    spec: StudySpec
    models: Models
    splits: Splits
    call: Call
    loss: Loss
    reading: Reading
    measure: Measure | OwnMetric
    judge: OwnJudge
    fold: int
    data_hash: str
    data_report: list[str]
    parameter_count: int
    dtype: torch.dtype
    device: torch.device
    y_scale: float

    @property
    def task(self) -> str:
        """``classification`` and ``regression`` as tables have them; anything else is ``own``."""
        return _TASKS.get(self.reading.kind, "own")

    @property
    def metric(self) -> str:
        return self.measure.name

    @property
    def shown_metric(self) -> str:
        return self.measure.shown

    @property
    def direction(self) -> str:
        """``maximize`` or ``minimize``: which way the metric is better."""
        return "maximize" if self.metric in MAXIMISED else "minimize"

    @property
    def folds(self) -> int:
        """Five that take turns as test samples, or 1."""
        return self.splits.folds

    @property
    def rows(self) -> Mapping[str, int]:
        """Samples of train, validation and test."""
        return {name: len(getattr(self.splits, name)) for name in ("train", "validation", "test")}

    @property
    def batch_size(self) -> int:
        """Samples of an optimizer step: all batches whose gradients it has the mean of, see ``Splits.batch``."""
        return self.splits.batch

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the training samples; those left over wait for the next shuffle."""
        return len(self.splits.train) // self.batch_size

    @property
    def full_horizon(self) -> int:
        """Optimizer steps of one full run; see ``Training.full_horizon``."""
        return self.spec.training.full_horizon(self.steps_per_epoch)

    def make_model(self, seed: int) -> nn.Module:
        """See ``Task``. Weights that the person froze stay frozen."""
        return self.models.make(seed)

    def make_models(self, seeds: Iterable[int]) -> Iterator[nn.Module]:
        """See ``Task``."""
        return map(self.make_model, seeds)

    @cached_property
    def proof(self) -> Proof:
        """Whether trials share a step with the results of plain runs, tried on a few samples. Raises what training raises."""
        size = min(self.batch_size, len(self.splits.train))
        rows = torch.arange(2 * size).remainder(len(self.splits.train))
        batches = [self.batch(some) for some in rows.split(size)]
        with calling_user_code():
            return prove(self.models.make, self.loss_on, batches, outputs_of=self.judge.of)

    @cached_property
    def recordings(self) -> Recordings:
        """Steps that were recorded, for all who train copies of the model."""
        return Recordings()

    @property
    def batchable(self) -> tuple[bool, str]:
        """See ``Task``."""
        return self.proof.equal, self.proof.reason

    def batch(self, rows: Tensor, step: int = 0) -> Any:
        """See ``Task``. ``step``: what a random augmentation draws depends on it, and on the rows."""
        return self.splits.train.batch(rows, step)

    def batches(self, rows: Iterable[Tensor], first: int = 0) -> Iterator[Any]:
        """The batch of each of ``rows``, (B,) or (K, B), in turn, read ahead of time. ``first``: the step of the first.

        ``rows`` is asked a few batches early, in the caller's thread. Close the iterator when it is no longer wanted.
        """
        return self.splits.train.batches(rows, first)

    def example(self) -> Any:
        """See ``Task``."""
        return self.splits.validation.batch(torch.arange(min(EXAMPLE_ROWS, len(self.splits.validation))))

    def loss_on(self, model: nn.Module, batch: Any, smoothing: float | Tensor | None = None) -> Tensor:
        """See ``Task``. Smoothing is for cross-entropy of class codes; ``source.OwnSource`` refuses it elsewhere."""
        share = self.spec.training.label_smoothing if smoothing is None else smoothing
        with autocast(self.device, self.spec.training.precision):
            return self.loss(self.call(model, batch), self.call.targets(batch), share)

    def ranking(self, order: str, seed: int) -> Tensor:
        """(n_train,) int64 training rows, as ``tasks.build.Problem.ranking``.

        Raises SpecError ``option_not_applicable`` where a linear teacher cannot say what is easy: without inputs that are one
        tensor of real numbers, one class or number a sample, and all of it held.
        """
        if order == "random":
            generator = torch.Generator().manual_seed(derive_seed("ranking", seed))
            return torch.randperm(len(self.splits.train), generator=generator)
        return self._difficulty.argsort(stable=True, descending=order == "hardest")

    @cached_property
    def _difficulty(self) -> Tensor:
        whole = self.splits.train.whole()
        inputs = list(leaves(self.call.inputs(whole)[0][0])) if whole is not None and len(self.call.args) == 1 else []
        if len(inputs) != 1 or not inputs[0].is_floating_point() or self.reading.kind not in _TASKS:
            message = (
                "a curriculum by difficulty needs samples of numbers with one class or number each; take order: random"
            )
            raise SpecError(message, code="option_not_applicable", pointer="/training/curriculum/order")
        targets = self.call.targets(whole).reshape(-1)
        classes = self.reading.kind != "number"
        return difficulty(inputs[0], targets.long() if classes else targets, classes=classes)

    def objective(self, metric: float, loss: float) -> float:
        """The minimised number of a trial; see ``tasks.common.objective``."""
        maximise = self.direction == "maximize"
        return objective(self.metric, metric, loss, maximise=maximise, scale=self.y_scale)


def smoothes(loss: Loss, reading: Reading) -> bool:
    """Whether label smoothing means anything: cross-entropy of class codes."""
    return isinstance(loss, NamedLoss) and loss.name == "cross_entropy" and reading.kind in ("classes", "tokens")
