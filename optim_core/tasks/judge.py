"""How trained networks are scored on a split of a table. See ``task.Judge``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from optim_core.spec.trial import Split
from optim_core.tasks.build import Problem
from optim_core.tasks.row_scores import row_scores, row_targets
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
        return self._problem.evaluate_batched(self._outputs(split, run, trials), self._problem.split(split).y)

    def rows(self, split: Split, run: Run, wanted: Sequence[int], trials: int) -> dict[int, np.ndarray]:
        """See ``task.Judge``."""
        outputs, y = self._outputs(split, run, trials), self._problem.split(split).y
        finite = outputs.sum((1, 2), dtype=torch.float64).isfinite().tolist()
        kept = [i for i in wanted if finite[i]]
        at_once, found = max(1, _VALUES // outputs[0].numel()), {}
        for first in range(0, len(kept), at_once):
            some = kept[first : first + at_once]
            found |= dict(zip(some, row_scores(self._problem, outputs[some], y), strict=True))
        return found

    def targets(self, split: Split) -> np.ndarray | None:
        """See ``task.Judge``."""
        return row_targets(self._problem, self._problem.split(split).y)

    def trivial(self, split: Split) -> np.ndarray | None:
        """See ``task.Judge``: the most frequent class of the training rows, or their mean."""
        output, y = trivial_output(self._problem), self._problem.split(split).y
        if not bool(output.isfinite().all()):
            return None
        return row_scores(self._problem, output.expand(1, len(y), -1), y)[0]

    def _outputs(self, split: Split, run: Run, trials: int) -> Tensor:
        block = max(1, _ROWS // trials)
        return torch.cat([run(part) for part in self._problem.split(split).x.split(block)], dim=1)
