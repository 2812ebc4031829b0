"""How trained networks are scored on a split of a table. See ``task.Judge``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from optim_core.spec.trial import Split
from optim_core.tasks.build import Problem
from optim_core.tasks.row_scores import row_groups, row_places, row_scores, row_targets, row_weights
from optim_core.tasks.task import Run
from optim_core.tasks.trivial import minority, trivial_output

# Bounded memory: at most so many activations' rows (trials × rows) at once, and so many values when rows are scored.
_ROWS, _VALUES = 65_536, 8_000_000


class TableJudge:
    """Scores of a problem's networks, whose outputs are (n, classes) or (n, 1)."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    @property
    def minority(self) -> float | None:
        """See ``task.Judge``."""
        return minority(self._problem)

    def score(self, split: Split, run: Run, trials: int) -> tuple[Tensor, Tensor]:
        """See ``task.Judge``."""
        rows = self._problem.split(split)
        return self._problem.evaluate_batched(self._outputs(split, run, trials), rows.y, rows.w)

    def rows(self, split: Split, run: Run, wanted: Sequence[int], trials: int) -> dict[int, np.ndarray]:
        """See ``task.Judge``."""
        outputs, (_, y, w) = self._outputs(split, run, trials), self._problem.split(split)
        finite = outputs.sum((1, 2), dtype=torch.float64).isfinite().tolist()
        kept = [i for i in wanted if finite[i]]
        at_once, found = max(1, _VALUES // outputs[0].numel()), {}
        for first in range(0, len(kept), at_once):
            some = kept[first : first + at_once]
            kept_of = row_scores(self._problem, outputs[some], y, w, self._together(split))
            found |= dict(zip(some, kept_of, strict=True))
        return found

    def targets(self, split: Split) -> np.ndarray | None:
        """See ``task.Judge``."""
        return row_targets(self._problem, self._problem.split(split).y, self._together(split))

    def groups(self) -> np.ndarray | None:
        """See ``task.Judge``."""
        return row_groups(self._problem)

    def weights(self, split: Split) -> np.ndarray | None:
        """See ``task.Judge``."""
        rows = self._problem.split(split)
        return row_weights(self._problem, rows.y, rows.w, self._together(split))

    def places(self, split: Split) -> np.ndarray | None:
        """See ``task.Judge``."""
        return row_places(self._problem, split)

    def trivial(self, split: Split) -> np.ndarray | None:
        """See ``task.Judge``: the most frequent class of the training rows, or their mean."""
        output, (_, y, w) = trivial_output(self._problem), self._problem.split(split)
        if not bool(output.isfinite().all()):
            return None
        return row_scores(self._problem, output.expand(1, len(y), -1), y, w, self._together(split))[0]

    def _together(self, split: Split) -> np.ndarray | None:
        return None if self._problem.together is None else self._problem.together[split]

    def _outputs(self, split: Split, run: Run, trials: int) -> Tensor:
        block = max(1, _ROWS // trials)
        return torch.cat([run(part) for part in self._problem.split(split).x.split(block)], dim=1)
