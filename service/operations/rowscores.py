"""What confirmed runs scored, row by row and on the whole of each split, from the stored row scores."""

from __future__ import annotations

import math
from typing import Any

from optim_core.spec.problem import FOLDS
from optim_core.spec.rowscores import unpack
from optim_core.spec.trial import Split
from service.db import Database
from service.db.repositories import TrialRepository, UnitRepository
from service.operations.errors import NotFound
from service.operations.views import RunRows, SplitRows

# Metrics that are the mean of what is stored for each row, or a function of it.
MEANS = frozenset({"accuracy", "loss", "log_loss", "mae", "mape", "rmse", "perplexity", "score", "error"})
_OF_MEAN = {"rmse": math.sqrt, "perplexity": lambda nats: math.exp(min(nats, 700.0))}


def split_scores(
    metric: str | None, rows: dict[Split, str], weights: dict[Split, str] | None = None
) -> dict[str, dict[str, Any]]:
    """Split → ``metric`` over its rows, in float64, and how many ``rows``. Null for a metric that is no mean of rows.

    ``weights``: of the rows, where they do not count alike.
    """
    # Takes a moment, and only workers store results.
    import numpy as np

    found = {}
    for split, text in rows.items():
        values = unpack(text)
        each = unpack(weights[split]) if weights and split in weights else None
        mean = (
            float(np.average(np.asarray(values, np.float64), weights=each)) if metric in MEANS and values else math.nan
        )
        score = _OF_MEAN[metric](mean) if metric in _OF_MEAN and math.isfinite(mean) else mean
        found[split] = {"metric": score if math.isfinite(score) else None, "rows": len(values)}
    return found


def run_rows(db: Database, study_id: str, number: int) -> RunRows:
    """The row scores of one confirmed run; no splits for any other trial, or one that diverged.

    NotFound ``trial_not_found``.
    """
    with db.read() as session:
        trial = TrialRepository(session).get(study_id, number) if 0 <= number < 2**31 else None
        if trial is None:
            raise NotFound("trial_not_found", f"study {study_id!r} has no trial {number}")
        unit = None if trial.unit_id is None else UnitRepository(session).get(trial.unit_id)
        result = None if unit is None else unit.result
        fold = None if unit is None else unit.spec["fold"]
        stored = next((one for one in result["trials"] if one["number"] == number), {}) if result else {}
        targets, weights, places = (
            {} if result is None else result.get(kind, {}) for kind in ("targets", "weights", "places")
        )
    return RunRows(
        number=number,
        splits={
            split: SplitRows(
                # A run's validation split is the fold after its test split.
                fold=None if fold is None else (fold + (split == "validation")) % FOLDS,
                values=[value if math.isfinite(value) else None for value in unpack(text)],
                targets=list(unpack(targets[split])) if split in targets else None,
                weights=list(unpack(weights[split])) if split in weights else None,
                places=list(unpack(places[split])) if split in places else None,
            )
            for split, text in stored.get("rows", {}).items()
        },
    )
