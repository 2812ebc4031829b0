"""How the networks of K trials are run together: their losses with the gradients, and their outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from optim_core.alignment import rounded
from optim_core.engine.blocks import Weights
from optim_core.engine.loss_scales import LossScales
from optim_core.engine.norms import MEASURED_ROWS, measure
from optim_core.nn.dropout import STEP, set_step
from optim_core.spec.trial import TrialParams
from optim_core.stacked import losses as stacked_losses
from optim_core.stacked.network import StackedNetwork
from optim_core.tasks.build import Problem


class Forward(Protocol):
    """Runs the networks of a pack. ``weights`` and ``buffers`` are stacked, (K, *shape); a span is some neighbours' rows.

    ``unused``: name → bools, one for each trial of the last ``losses``, of weights that no gradient reached. ``scales``: of the
    losses, where they are scaled; ``overflowed``: (K,) bools then, of trials that are to skip the step.
    """

    unused: Weights
    scales: LossScales | None
    overflowed: Tensor | None

    def begin(self, first: int, last: int, rows: Callable[[int], Tensor]) -> None:
        """The steps first … last−1 come next; ``rows``: step → its rows, (1 or K, batch)."""
        ...

    def at(self, step: int, buffers: Weights) -> None:
        """``step`` is about to be taken."""
        ...

    def losses(self, weights: Weights, buffers: Weights, rows: Tensor, slots: Weights, span: slice) -> Tensor:
        """Losses (k,) of the trials in ``span`` on the training rows (1 or k, batch); their gradients are in ``slots``
        afterwards. All but ``span`` is theirs already.
        """
        ...

    def outputs(self, weights: Weights, buffers: Weights, batch: Any) -> Any:
        """What the networks make of a batch in evaluation mode: tensors (K, n, …)."""
        ...

    def measure(self, weights: Weights, buffers: Weights) -> None:
        """Replace the running statistics in ``buffers`` by those of a large batch of training rows."""
        ...


class TableForward:
    """The catalogue's networks, by rules for stacked layers (``stacked.network``)."""

    def __init__(
        self, problem: Problem, skeleton: nn.Module, names: list[str], trials: Sequence[TrialParams], *, vectorise: bool
    ) -> None:
        self._problem, self._skeleton = problem, skeleton
        self.unused: Weights = {}
        self.scales: LossScales | None = None
        self.overflowed: Tensor | None = None
        self._network = StackedNetwork(skeleton, names, problem.train.x[:2], vectorise=vectorise)
        self._drops = any(name.rpartition(".")[2] == STEP for name, _ in skeleton.named_buffers())
        self._smoothing = self._numbers_of(trials)

    def _numbers_of(self, trials: Sequence[TrialParams]) -> Tensor | float:
        """(K,) label smoothings, or the study's when no trial sets its own."""
        default = self._problem.spec.training.label_smoothing
        values = [trial.configuration.techniques.get("label_smoothing") for trial in trials]
        if all(value is None for value in values):
            return default
        chosen = [default if value is None else value for value in values]
        return torch.tensor(chosen, dtype=self._problem.dtype, device=self._problem.device)

    def begin(self, first: int, last: int, rows: Callable[[int], Tensor]) -> None:
        """See ``Forward``: all rows are in memory."""
        del first, last, rows
        self._skeleton.train()

    def at(self, step: int, buffers: Weights) -> None:
        """See ``Forward``."""
        if self._drops:
            set_step(buffers, step)

    def losses(self, weights: Weights, buffers: Weights, rows: Tensor, slots: Weights, span: slice) -> Tensor:
        """See ``Forward``."""
        x, y, w = self._problem.batch(rows)
        outputs, back = self._network.forward(weights, buffers, x, slots)
        target, each = (t[0] if t is not None and len(t) == 1 else t for t in (y, w))
        assert target is not None
        if self._problem.classes is None:
            losses, gradient = stacked_losses.squared_error(outputs, target, each)
        else:
            smoothing = self._smoothing[span] if isinstance(self._smoothing, Tensor) else self._smoothing
            of_classes = self._problem.class_weights
            losses, gradient = stacked_losses.cross_entropy(outputs, target, smoothing, each, of_classes)
        if back is not None:
            back(gradient)
        return losses

    def outputs(self, weights: Weights, buffers: Weights, batch: Tensor) -> Tensor:
        """See ``Forward``: (n, …) rows → (K, n, outputs)."""
        self._skeleton.eval()
        # With rows up to a boundary, whatever a layer makes of them is a multiple of it too.
        more = rounded(len(batch), self._problem.dtype) - len(batch)
        rows = torch.cat([batch, batch[-1:].expand(more, *batch.shape[1:])]) if more else batch
        found, _ = self._network.forward(weights, buffers, rows.unsqueeze(0))
        return found.mT[:, : len(batch)]

    def measure(self, weights: Weights, buffers: Weights) -> None:
        """See ``Forward``."""
        with measure(self._skeleton):
            self._network.forward(weights, buffers, self._problem.train.x[:MEASURED_ROWS].unsqueeze(0))
