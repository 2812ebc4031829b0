"""The interface between what is trained and how: an engine knows a task by this alone.

Two implementations: ``build.Problem``, tables and the catalogue's networks; ``own.OwnTask``, a person's module and data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from optim_core.spec.problem import StudySpec
from optim_core.spec.trial import Split

# A batch of a split → what a network makes of it for each of K trials, in evaluation mode: tensors (K, n, …).
Run = Callable[[Any], Any]


class Task(Protocol):
    """A study's training task on one device, for one fold.

    ``rows``: how many each of train, validation and test has. ``fold``: whose turn it is to be the test rows; 0 is what the
    search sees. ``folds``: how many take turns. Batches are trees of tensors with samples first.
    """

    @property
    def spec(self) -> StudySpec: ...
    @property
    def task(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def direction(self) -> str: ...
    @property
    def fold(self) -> int: ...
    @property
    def folds(self) -> int: ...
    @property
    def rows(self) -> Mapping[str, int]: ...
    @property
    def data_hash(self) -> str: ...
    @property
    def data_report(self) -> list[str]: ...
    @property
    def parameter_count(self) -> int: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def steps_per_epoch(self) -> int: ...
    @property
    def full_horizon(self) -> int: ...

    def make_model(self, seed: int) -> nn.Module:
        """A network in training mode with the initial weights of ``seed``; no global random stream is moved."""
        ...

    def make_models(self, seeds: Iterable[int]) -> Iterator[nn.Module]:
        """The same for each of ``seeds``. A network holds until the next one is asked for."""
        ...

    def batch(self, rows: Tensor) -> Any:
        """(B,) training rows → a batch; (K, B) rows → the same with a trial axis before the samples."""
        ...

    def example(self) -> Any:
        """A few rows of the validation split, as ``Judge`` hands them to its ``run``."""
        ...

    def loss_on(self, model: nn.Module, batch: Any, smoothing: float | Tensor | None = None) -> Tensor:
        """The training loss () of a module on a batch, with its graph. ``smoothing``: the trial's label smoothing."""
        ...

    def ranking(self, order: str, seed: int) -> Tensor:
        """(n_train,) training rows in the order of a curriculum."""
        ...

    @property
    def batchable(self) -> tuple[bool, str]:
        """Whether trials can share a step with the same results, found by trying; else the reason in one line."""
        ...

    def objective(self, metric: float, loss: float) -> float:
        """The minimised number of a trial; see ``build.Problem.objective``."""
        ...


class Judge(Protocol):
    """Scores trained networks on the rows of a split. ``minority``: the share of the rarest class over all rows, if there are
    classes.
    """

    @property
    def minority(self) -> float | None: ...

    def score(self, split: Split, run: Run, trials: int) -> tuple[Tensor, Tensor]:
        """Losses (K,) and metrics (K,), float64; NaN for both where any output of a trial is not finite."""
        ...

    def rows(self, split: Split, run: Run, wanted: Sequence[int], trials: int) -> dict[int, np.ndarray]:
        """Place of a trial in the pack → what ``rowscores`` stores of it; those without finite outputs are left out."""
        ...

    def targets(self, split: Split) -> np.ndarray | None:
        """The true values that go with ``rows``, for metrics that need them."""
        ...

    def groups(self) -> np.ndarray | None:
        """The number of the group of each row that is stored of the test split; None where rows are independent."""
        ...

    def weights(self, split: Split) -> np.ndarray | None:
        """How much each row counts, where ``rows`` do not hold it already; None where all count alike."""
        ...

    def places(self, split: Split) -> np.ndarray | None:
        """(n,) uint32 numbers of the rows in the data set, from 1 on; None where not single rows are stored."""
        ...

    def trivial(self, split: Split) -> np.ndarray | None:
        """What one answer for every row scores, stored like a trial's rows; None where there is no such answer."""
        ...
