"""Scores K trained modules of a person's on the rows of a split: bounded memory, float64, one trial's NaN its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optim_core.own.calls import Call
from optim_core.own.losses import FunctionLoss, Loss, NamedLoss, OutputLoss
from optim_core.own.measures import Measure, Parts, ratio
from optim_core.own.outputs import as_tree, like
from optim_core.own.own_metric import MOST_KEPT, OwnMetric
from optim_core.own.samples import Samples
from optim_core.own.trees import leaves, map_tree
from optim_core.spec.errors import DataError
from optim_core.spec.trial import Split
from optim_core.tasks.row_scores import stored
from optim_core.tasks.task import Run

# Rows of all trials at a time; and values of the widest layer or output, over all trials.
MOST_ROWS, MOST_VALUES = 65_536, 2**25
# Losses that are one number a batch are known for at most so many blocks of rows: of a function, which sees slices of outputs
# that are there, and of a module's own, which has to run for each block.
FUNCTION_BLOCKS, MODULE_BLOCKS = 256, 64


@dataclass
class OwnJudge:
    """See ``tasks.task.Judge``; ``of`` is what its ``run`` has to do for each trial, in evaluation mode.

    ``loss``: the one that scores. ``samples``: of the splits that are scored; ``largest``: samples of the largest in any fold,
    so that a fold is cut into the same blocks in all its turns. ``widest``: values that a row has in the widest layer.
    ``constant``: what one answer for every row is beside given targets, for ``trivial``; None where there is none.
    """

    call: Call
    loss: Loss
    measure: Measure | OwnMetric
    samples: Mapping[Split, Samples]
    largest: int
    widest: int
    constant: Callable[[Any], Any] | None
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    _truth: dict[Split, Any] = field(default_factory=dict)
    # How many there were the last time.
    _trials: int = 16
    minority: float | None = None

    def of(self, module: nn.Module, batch: Any) -> dict[str, Any]:
        """A batch → tensors with its rows (of a loss without a name: blocks of rows) first. Runs under ``torch.vmap``."""
        with self.autocast():
            outputs = self.call(module, batch)
        return self._parts(outputs, self.call.targets(batch))

    def score(self, split: Split, run: Run, trials: int) -> tuple[Tensor, Tensor]:
        """See ``Judge``."""
        self._trials = trials
        parts, kept = self._collect(split, run, self._first(split, range(trials)))
        finite, losses = parts["finite"].all(1), ratio(parts["loss"], parts["weight"])
        if isinstance(self.measure, Measure):
            values = self.measure.values(parts, self._truth[split])
        else:
            whole = [i for i, ended in enumerate(finite.tolist()) if ended]
            scored = self._own(split, run, whole, kept, self.measure.value)
            values = losses.new_tensor([scored.get(i, torch.nan) for i in range(trials)])
        return tuple(torch.where(finite, each, torch.nan) for each in (losses, values))  # type: ignore[return-value]

    def rows(self, split: Split, run: Run, wanted: Sequence[int], trials: int) -> dict[int, np.ndarray]:
        """See ``Judge``. Of a person's own metric the pseudo-values of blocks of rows; a trial with one that is not finite has
        none."""
        self._trials = trials
        parts, kept = self._collect(split, run, self._first(split, wanted))
        finite = parts["finite"].all(1).tolist()
        wanted = [i for i in wanted if finite[i]]
        if isinstance(self.measure, OwnMetric):
            found = self._own(split, run, wanted, kept, self.measure.rows)
            return {i: values for i, values in found.items() if values is not None}
        if not wanted:
            return {}
        some = {name: part[wanted] for name, part in parts.items()}
        values = self._stored(self.measure.rows(some, self._truth[split]))
        return dict(zip(wanted, values, strict=True))

    def targets(self, split: Split) -> np.ndarray | None:
        """See ``Judge``."""
        if isinstance(self.measure, OwnMetric) or self.measure.targets is None:
            return None
        if split not in self._truth:
            truth = self.measure.truth
            assert truth is not None
            self._truth[split] = torch.cat([truth(self.call.targets(b)) for b in self._batches(split)])
        return self._stored(self.measure.targets(self._truth[split]))

    def groups(self) -> None:
        """See ``Judge``: nothing is known of a person's own samples."""

    def weights(self, split: Split) -> np.ndarray | None:
        """See ``Judge``: weights of rows are in the person's loss, and in what is stored of each row."""
        return None

    def places(self, split: Split) -> None:
        """See ``Judge``: samples of the person's own have no file."""

    def trivial(self, split: Split) -> np.ndarray | None:
        """See ``Judge``: the most frequent class or token, the mean; none for a person's own metric, or a loss without name."""
        constant, measure = self.constant, self.measure
        named = isinstance(self.loss, NamedLoss) or measure.name not in ("loss", "perplexity")
        if constant is None or isinstance(measure, OwnMetric) or not named:
            return None

        def answer(batch: Any) -> dict[str, Tensor]:
            targets = self.call.targets(batch)
            outputs = constant(targets)
            loss = self.loss.rows(outputs, targets) if isinstance(self.loss, NamedLoss) else ()
            parts = {**dict(zip(("loss", "weight"), loss, strict=False)), **measure.of(outputs, targets)}
            return {name: part.unsqueeze(0) for name, part in parts.items()}

        parts, _ = self._collect(split, answer, [])
        values = measure.rows(parts, self._truth[split])
        return self._stored(values)[0] if bool(values.double().isfinite().all()) else None

    def _parts(self, outputs: Any, targets: Any) -> dict[str, Any]:
        tree = as_tree(outputs)
        rows = len(next(leaves(targets)))
        numbers = [t for t in leaves(tree) if t.is_floating_point()]
        finite = torch.stack([_finite_rows(t, rows) for t in (*numbers, torch.zeros(rows))]).all(0)
        if isinstance(self.loss, NamedLoss):
            sums, weights = self.loss.rows(outputs, targets)
        else:
            pieces = self._pieces(outputs, tree, targets, rows)
            losses = torch.stack([self.loss(*piece[1:]).double() for piece in pieces])
            weights = torch.tensor([piece[0] for piece in pieces], dtype=torch.float64, device=losses.device)
            sums = losses * weights
        return {"finite": finite, "loss": sums, "weight": weights, **self.measure.of(outputs, targets)}

    def _pieces(self, outputs: Any, tree: Any, targets: Any, rows: int) -> list[tuple[int, Any, Any]]:
        """(rows, outputs, targets) of the blocks that a batch is cut into: one where outputs cannot be cut."""
        size = self._block
        if rows <= size or isinstance(self.loss, OutputLoss) or not _by_rows((tree, targets), rows):
            return [(rows, outputs, targets)]
        parts = []
        for first in range(0, rows, size):
            some = slice(first, min(first + size, rows))
            cut, goal = (map_tree(lambda t, some=some: t[some], each) for each in (tree, targets))
            parts.append((some.stop - first, like(cut, outputs), goal))
        return parts

    @property
    def _block(self) -> int:
        """Rows whose loss is one number, where it has no name."""
        most = FUNCTION_BLOCKS if isinstance(self.loss, FunctionLoss) else MODULE_BLOCKS
        return -(-self.largest // most)

    def _batches(self, split: Split) -> Iterator[Any]:
        """All rows, in the data's own order; where a loss is a block's in another, since neighbours in a data set are alike."""
        samples = self.samples[split]
        rows, size = torch.arange(len(samples)), _rows_at_once(self._trials, self.widest)
        if not isinstance(self.loss, NamedLoss):
            rows = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
            size = self._block if isinstance(self.loss, OutputLoss) else max(1, size // self._block) * self._block
        return samples.batches(iter(rows.split(size)))

    def _collect(self, split: Split, run: Run, keep: Sequence[int]) -> tuple[dict[str, Tensor], dict[int, Any]]:
        """The parts of all rows, (K, n, …), and the outputs of the trials ``keep`` on the CPU; on the way the truth."""
        parts: list[Parts] = []
        kept: list[Any] = []
        truth: list[Any] = []
        for batch in self._batches(split):
            found = dict(run(batch))
            outputs = found.pop("outputs", None)
            if outputs is not None and keep:
                chosen = torch.tensor(keep)
                kept.append(map_tree(lambda t, chosen=chosen: t[chosen.to(t.device)].cpu(), outputs))
            parts.append({name: part.detach() for name, part in found.items()})
            if split not in self._truth:
                truth.append(self._truth_of(batch))
        if split not in self._truth:
            self._truth[split] = None if truth[0] is None else _joined(truth, 0)
        together = _joined(kept, 1)
        each = {i: map_tree(lambda t, place=place: t[place], together) for place, i in enumerate(keep)}
        return {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}, each

    def _truth_of(self, batch: Any) -> Any:
        targets = self.call.targets(batch)
        if isinstance(self.measure, OwnMetric):
            return map_tree(lambda t: t.cpu(), targets)
        return None if self.measure.truth is None else self.measure.truth(targets)

    def _first(self, split: Split, wanted: Sequence[int]) -> list[int]:
        """The trials whose outputs are kept in one pass."""
        if not isinstance(self.measure, OwnMetric):
            return []
        size = self.measure.bytes_of(len(self.samples[split]))
        return list(wanted)[: max(1, MOST_KEPT // max(1, size))]

    def _own(
        self, split: Split, run: Run, wanted: Sequence[int], kept: dict[int, Any], score: Callable
    ) -> dict[int, Any]:
        """What ``score`` says of all outputs and targets of each trial; further passes where not all could be kept."""
        found: dict[int, Any] = {}
        left = list(wanted)
        while left:
            found.update({i: score(kept[i], self._truth[split]) for i in left if i in kept})
            left = [i for i in left if i not in found]
            if left:
                _, kept = self._collect(split, run, self._first(split, left))
        return found

    def _stored(self, values: Tensor) -> np.ndarray:
        return stored(values, self.measure.classes)


def _rows_at_once(trials: int, widest: int) -> int:
    return max(1, min(MOST_ROWS // trials, MOST_VALUES // (trials * widest)))


def _finite_rows(tensor: Tensor, rows: int) -> Tensor:
    if tensor.ndim and len(tensor) == rows:
        # No sum of float32 numbers overflows in float64.
        return tensor.reshape(rows, -1).sum(1, dtype=torch.float64).isfinite()
    return tensor.isfinite().all().expand(rows)


def _by_rows(tree: Any, rows: int) -> bool:
    return all(t.ndim and len(t) == rows for t in leaves(tree))


def _joined(trees: list[Any], axis: int) -> Any:
    if not trees:
        return None
    try:
        return map_tree(lambda *parts: torch.cat(parts, dim=axis), *trees)
    except (RuntimeError, ValueError, KeyError) as error:
        message = "outputs or targets have other shapes in other batches, and the metric needs all together: pad to one length"
        raise DataError(message, code="shape_mismatch", pointer="/metric") from error
