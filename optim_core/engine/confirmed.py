"""What the trials of a confirmation scored on each row once they have been trained, and what no model at all scores there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from optim_core.engine.plateau import reacts
from optim_core.spec.rowscores import pack
from optim_core.spec.trial import Split, TrialParams
from optim_core.tasks.task import Judge, Run

PackedRows = dict[Split, str]
SPLITS: tuple[Split, ...] = get_args(Split)


def packed_rows(
    judge: Judge, trials: Sequence[TrialParams], ended: Sequence[int], run: Run
) -> tuple[list[PackedRows], PackedRows, PackedRows]:
    """(rows of each trial, targets of each split, weights of its rows), packed by ``rowscores.pack``.

    ``ended``: places of the trials that did not diverge; the others have no rows. A trial whose schedule reacts to validation
    losses has used that split and gets rows of the test split alone; so does one whose outputs there are not finite.
    """
    rows: list[PackedRows] = [{} for _ in trials]
    targets: PackedRows = {}
    weights: PackedRows = {}
    for split in SPLITS:
        wanted = [i for i in ended if split == "test" or not reacts(trials[i].configuration)]
        if not wanted:
            continue
        if (truth := judge.targets(split)) is not None:
            targets[split] = packed(truth)
        if (each := judge.weights(split)) is not None:
            weights[split] = packed(each)
        for i, values in judge.rows(split, run, wanted, len(trials)).items():
            rows[i][split] = packed(values)
    return rows, targets, weights


def packed_places(judge: Judge) -> PackedRows:
    """Where in the data set the rows of the test and the validation split stand, packed; without those that do not say."""
    return {split: packed(places) for split in SPLITS if (places := judge.places(split)) is not None}


def trivial_rows(judge: Judge) -> PackedRows:
    """What one answer for every row scores on each row of the test and the validation split, packed like a trial's."""
    return {split: packed(values) for split in SPLITS if (values := judge.trivial(split)) is not None}


def packed_groups(judge: Judge) -> str | None:
    """The group of each row of the test split, packed; None where all rows are independent of each other."""
    groups = judge.groups()
    return None if groups is None else packed(groups)


def packed(values: np.ndarray) -> str:
    """See ``rowscores.pack``."""
    # One letter means the same type for numpy and for the standard library's arrays.
    return pack(values.tobytes(), values.dtype.char)  # type: ignore[arg-type]
