"""From a spec to something an engine can train: tensors, networks by seed, loss, metric and horizon."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from optim_core.data import class_weights, understand
from optim_core.networks import fitting
from optim_core.spec.keys import content_hash, derive_seed
from optim_core.spec.problem import MAXIMISED, StudySpec
from optim_core.tasks import losses, metrics
from optim_core.tasks.common import objective
from optim_core.tasks.fine_tune import StartWeights, read_start
from optim_core.tasks.models import make_networks, outline
from optim_core.tasks.models.modules import build
from optim_core.tasks.teacher import difficulty, one_hot


class Split(NamedTuple):
    """``x``: (n, d) or (n, c, h, w); ``y``: (n,) class codes (int64) or standardised numbers; ``w``: (n,) sample weights."""

    x: Tensor
    y: Tensor
    w: Tensor | None = None


@dataclass(frozen=True)
class Problem:
    """A study's training task on one device. Networks give (n, classes) scores, or (n, 1) standardised predictions.

    ``fold``: whose turn it is to be the test rows, of ``folds``; 0 is what the search sees, and all there is of a single split.
    ``batch_size``: as asked, or what the training rows allow. ``together``: of validation and test (n,) labels of rows that
    are not independent of each other, None where all are. ``cardinalities``: codes of each category column, the last
    columns of ``x``; only the model ``tabular`` has any. ``class_weights``: (C,), of the training loss alone. ``places``: of
    validation and test (n,) uint32 numbers of the rows in the data set, from 1 on.
    """

    spec: StudySpec
    task: str
    metric: str
    train: Split
    validation: Split
    test: Split
    classes: list[str] | None
    y_scale: tuple[float, float]
    data_report: list[str]
    data_hash: str
    parameter_count: int
    dtype: torch.dtype
    device: torch.device
    batch_size: int
    folds: int = 1
    start: StartWeights | None = None
    cardinalities: tuple[int, ...] = ()
    fold: int = 0
    together: dict[str, np.ndarray] | None = None
    class_weights: Tensor | None = None
    places: dict[str, np.ndarray] | None = None

    @property
    def _always_dropout(self) -> bool:
        return "dropout" in self.spec.search.techniques

    @property
    def rows(self) -> dict[str, int]:
        """How many each split has."""
        return {name: len(self.split(name).y) for name in ("train", "validation", "test")}

    def split(self, name: str) -> Split:
        """``train``, ``validation`` or ``test``."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def batch(self, rows: Tensor) -> Split:
        """(B,) or (K, B) training rows → inputs (…, B, *features) and targets (…, B)."""
        # Several times faster than indexing by rows.
        flat = rows.view(-1).to(self.device)
        x, y = self.train.x.index_select(0, flat), self.train.y.index_select(0, flat)
        w = None if self.train.w is None else self.train.w.index_select(0, flat).view(rows.shape)
        return Split(x.view(*rows.shape, *x.shape[1:]), y.view(rows.shape), w)

    def example(self) -> Tensor:
        """Inputs of the first validation rows."""
        return self.validation.x[: self.batch_size]

    def loss_on(self, model: nn.Module, batch: Split, smoothing: float | Tensor | None = None) -> Tensor:
        """See ``Task``."""
        return self.loss(model(batch.x), batch.y, smoothing, batch.w)

    def ranking(self, order: str, seed: int) -> Tensor:
        """(n_train,) int64 training rows: ``easiest`` or ``hardest`` first for a linear teacher, or ``random`` by seed."""
        if order == "random":
            generator = torch.Generator().manual_seed(derive_seed("ranking", seed))
            return torch.randperm(len(self.train.y), generator=generator)
        return self._difficulty.argsort(stable=True, descending=order == "hardest")

    @cached_property
    def _difficulty(self) -> Tensor:
        rows = one_hot(self.train.x, self.cardinalities)
        return difficulty(rows, self.train.y, classes=self.classes is not None)

    @property
    def direction(self) -> str:
        """``maximize`` or ``minimize``: which way the metric is better."""
        return "maximize" if self.metric in MAXIMISED else "minimize"

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return tuple(self.train.x.shape[1:])

    @property
    def outputs(self) -> int:
        """Width of the network's output: the number of classes, or 1."""
        return len(self.classes) if self.classes is not None else 1

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the training rows; the rows left over wait for the next shuffle."""
        return len(self.train.y) // self.batch_size

    @property
    def full_horizon(self) -> int:
        """Optimizer steps of one full run; see ``Training.full_horizon``."""
        return self.spec.training.full_horizon(self.steps_per_epoch)

    def make_model(self, seed: int) -> nn.Module:
        """A network in training mode with the initial weights and dropout of ``seed``; no global stream is touched."""
        return next(self.make_models([seed]))

    def make_models(self, seeds: Iterable[int]) -> Iterator[nn.Module]:
        """The same for each of ``seeds``, faster. A network holds until the next one is asked for."""
        networks = make_networks(
            self.spec.model,
            self.feature_shape,
            self.outputs,
            seeds,
            self.dtype,
            self.device,
            cardinalities=self.cardinalities,
            always_dropout=self._always_dropout,
        )
        for network in networks:
            if self.start is not None:
                self.start.put_into(network)
            yield network

    def loss(
        self, outputs: Tensor, y: Tensor, smoothing: float | Tensor | None = None, w: Tensor | None = None
    ) -> Tensor:
        """Mean training loss of a batch: (B, C) or (B, 1) and (B,) → (), see ``losses``. Runs under vmap.

        ``smoothing``: the trial's label smoothing (float or scalar tensor); None takes the study's. ``w``: (B,) sample weights.
        """
        if self.classes is None:
            return losses.number_loss(outputs, y, w)
        share = self.spec.training.label_smoothing if smoothing is None else smoothing
        return losses.class_loss(outputs, y, share, w, self.class_weights)

    def mass(self, y: Tensor, w: Tensor | None) -> Tensor:
        """() what these rows weigh in a mean of the training loss: their number where all count alike."""
        each = torch.ones_like(y, dtype=self.dtype) if w is None else w
        return (each if self.class_weights is None else each * self.class_weights[y]).sum()

    @torch.no_grad()
    def evaluate_batched(self, outputs: Tensor, y: Tensor, w: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(K, n, C) or (K, n, 1) outputs and (n,) targets → losses (K,) and metrics (K,), float64.

        The loss is without smoothing, in standardised units; the metric in the target's own unit. A trial with any
        non-finite output gets NaN for both. ``w``: (n,) sample weights, which weigh in both.
        """
        outputs = outputs.double()
        # One pass: no sum of float32 numbers overflows in float64.
        finite = outputs.sum((1, 2)).isfinite()
        if self.classes is not None:
            safe = outputs if bool(finite.all()) else outputs.masked_fill(~finite[:, None, None], 0.0)
            loss, value = metrics.cross_entropy(safe, y, w), metrics.CLASSIFICATION[self.metric](safe, y, w)
        else:
            flat, goal = outputs.squeeze(-1), y.double()
            loss = metrics.mse(flat, goal, w)
            mean, deviation = (0.0, 1.0) if self.metric == "loss" else self.y_scale
            value = metrics.REGRESSION[self.metric](flat * deviation + mean, goal * deviation + mean, w)
        nan = torch.full_like(loss, torch.nan)
        return torch.where(finite, loss, nan), torch.where(finite, value, nan)

    def evaluate(self, outputs: Tensor, y: Tensor) -> tuple[float, float]:
        """(loss, metric) of one trial's (n, C) outputs; see ``evaluate_batched``."""
        loss, value = self.evaluate_batched(outputs.unsqueeze(0), y)
        return float(loss), float(value)

    def objective(self, metric: float, loss: float) -> float:
        """The minimised number of a trial; see ``common.objective``."""
        return objective(self.metric, metric, loss, maximise=self.metric in MAXIMISED, scale=self.y_scale[1])

    @property
    def batchable(self) -> tuple[bool, str]:
        """See ``Task``: found by running two trials stacked."""
        return self._batchable

    @cached_property
    def _batchable(self) -> tuple[bool, str]:
        models = [self.make_model(seed) for seed in (0, 1)]
        skeleton = outline(
            self.spec.model,
            self.feature_shape,
            self.outputs,
            cardinalities=self.cardinalities,
            always_dropout=self._always_dropout,
        )
        x = self.train.x[:2]
        try:
            params, buffers = torch.func.stack_module_state(models)

            def forward(own: dict[str, Tensor], state: dict[str, Tensor]) -> Tensor:
                return torch.func.functional_call(skeleton, (own, state), (x,))

            torch.vmap(forward)(params, buffers).sum().backward()
        except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
            return False, (str(error).splitlines() or [type(error).__name__])[0][:200]
        return True, ""


class ProblemSource:
    """A study's data set, read once, from which the problem of each fold is made.

    The folds' networks have the same initial weights wherever their inputs have the same width; they need not, since a category
    may be rare among the training rows of one fold and not of another.
    """

    def __init__(
        self,
        spec: StudySpec,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        roots: Sequence[str] | None = None,
    ) -> None:
        """``roots``: folders in which data files may lie; None means anywhere. Raises DataError."""
        self._spec, self._dtype, self._device, self._roots = spec, dtype, torch.device(device), roots
        self._found = understand(spec, roots)

    def problem(self, fold: int | None = None) -> Problem:
        """The problem whose test rows are ``fold``; None: the one that the search sees. See ``data.Understood.arrays``.

        Checks that the model fits and moves the tensors to the device. Raises DataError and SpecError.
        """
        spec, arrays = self._spec, self._found.arrays(fold)
        classes = len(arrays.classes) if arrays.classes is not None else None
        network = fitting(spec, arrays.feature_shape, classes, arrays.cardinalities)
        # Codes travel as floats; each must be a number of its own.
        assert sum(arrays.cardinalities) <= 2 / torch.finfo(self._dtype).eps
        weights = class_weights(spec.training.class_weights, arrays.classes, arrays.y_train)
        start = None
        if spec.training.fine_tune is not None:
            with torch.device("meta"):
                start = read_start(spec.training.fine_tune, build(network), self._roots)
        return Problem(
            spec=spec,
            task=arrays.task,
            metric=arrays.metric,
            train=self._split(arrays.x_train, arrays.y_train, arrays.weights and arrays.weights[0]),
            validation=self._split(arrays.x_val, arrays.y_val, arrays.weights and arrays.weights[1]),
            test=self._split(arrays.x_test, arrays.y_test, arrays.weights and arrays.weights[2]),
            classes=arrays.classes,
            y_scale=arrays.y_scale,
            data_report=[
                *arrays.report,
                *([start.said] if start is not None else []),
            ],
            data_hash=content_hash([arrays.hash, start.digest]) if start is not None else arrays.hash,
            parameter_count=network.parameter_count,
            dtype=self._dtype,
            device=self._device,
            start=start,
            cardinalities=arrays.cardinalities,
            fold=fold or 0,
            folds=len(self._found.splits),
            batch_size=self._found.batch_size,
            together=self._found.together_in(fold),
            places=self._found.places_in(fold),
            class_weights=None if weights is None else self._tensor(weights),
        )

    def _split(self, x: np.ndarray, y: np.ndarray, w: np.ndarray | None) -> Split:
        """Class codes stay whole numbers; all else gets the problem's precision."""
        targets = torch.from_numpy(y).to(self._device, None if y.dtype == np.int64 else self._dtype)
        return Split(self._tensor(x), targets, None if w is None else self._tensor(w))

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self._device, self._dtype)


def build_problem(
    spec: StudySpec,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    roots: Sequence[str] | None = None,
    fold: int | None = None,
) -> Problem:
    """The problem of one fold; a ``ProblemSource`` gives those of several for one reading. Arguments and errors are its."""
    return ProblemSource(spec, dtype, device, roots).problem(fold)
