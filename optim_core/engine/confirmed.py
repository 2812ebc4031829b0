"""What the trials of a confirmation scored on each row once they have been trained, and what no model at all scores there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from optim_core.engine.plateau import reacts
from optim_core.spec.rowscores import pack
from optim_core.spec.trial import Split, TrialParams
from optim_core.tasks.build import Problem
from optim_core.tasks.build import Split as Data
from optim_core.tasks.row_scores import row_scores, row_targets
from optim_core.tasks.trivial import trivial_output

PackedRows = dict[Split, str]
# Row scores are computed for at most this many (trial, row, output) values at a time.
_VALUES = 8_000_000


def packed_rows(
    problem: Problem, trials: Sequence[TrialParams], ended: Sequence[int], outputs: Callable[[Tensor], Tensor]
) -> tuple[list[PackedRows], PackedRows]:
    """(rows of each trial, targets of each split), packed by ``rowscores.pack``.

    ``ended``: places of the trials that did not diverge; the others have no rows. ``outputs``: rows (n, …) → (K, n, C) of all
    trials. A trial whose schedule reacts to validation losses has used that split and gets rows of the test split alone; so
    does one whose outputs there are not finite.
    """
    rows: list[PackedRows] = [{} for _ in trials]
    targets: PackedRows = {}
    for name, split in _splits(problem).items():
        wanted = [i for i in ended if name == "test" or not reacts(trials[i].configuration)]
        if not wanted:
            continue
        truth = row_targets(problem, split.y)
        if truth is not None:
            targets[name] = _packed(truth)
        found = outputs(split.x)
        finite = found.sum((1, 2), dtype=torch.float64).isfinite().tolist()
        wanted = [i for i in wanted if finite[i]]
        at_once = max(1, _VALUES // found[0].numel())
        for first in range(0, len(wanted), at_once):
            some = wanted[first : first + at_once]
            for i, values in zip(some, row_scores(problem, found[some], split.y), strict=True):
                rows[i][name] = _packed(values)
    return rows, targets


def trivial_rows(problem: Problem) -> PackedRows:
    """What one answer for every row scores on each row of the test and the validation split, packed like a trial's."""
    output = trivial_output(problem)
    if not bool(output.isfinite().all()):
        return {}
    return {
        name: _packed(row_scores(problem, output.expand(1, len(split.y), -1), split.y)[0])
        for name, split in _splits(problem).items()
    }


def _splits(problem: Problem) -> dict[Split, Data]:
    return {"test": problem.test, "validation": problem.validation}


def _packed(values: np.ndarray) -> str:
    # One letter means the same type for numpy and for the standard library's arrays.
    return pack(values.tobytes(), values.dtype.char)  # type: ignore[arg-type]
