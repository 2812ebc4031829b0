"""A loop of the person's own: what stands in for a probe, and for scores of rows.

Nothing is probed: the spec says how long a run is and which metric is better how. Only a budget in time needs to know how long
a step takes, before it can be planned; then the first trial is a short one that shows it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from optim_core.recommend.row_scores import Values
from optim_core.spec.problem import ExternalModel, StudySpec
from optim_core.spec.trial import ProbeReport, StudyView

ENGINE = "external"
# Where no budget is in time, no plan depends on what a step takes.
_ANY_STEP_S = 1.0


def timed(spec: StudySpec) -> bool:
    """Whether a step has to be timed before anything else is planned."""
    return spec.external and (spec.budget.seconds is not None or spec.budget.device_seconds is not None)


def external_report(view: StudyView) -> ProbeReport | None:
    """What a probe would have found. A pure function of the spec; of a budget in time also of its first, short trial, None
    before that has ended.
    """
    spec = view.spec
    assert isinstance(spec.model, ExternalModel)
    step_s = _ANY_STEP_S
    if timed(spec):
        shown = [u.result for u in view.units if u.spec.kind == "probe" and u.result is not None]
        measured = [r.seconds / r.train_steps for r in shown if r.train_steps > 0 and r.seconds > 0]
        if not measured:
            return None
        step_s = measured[0]
    return ProbeReport(
        task="own", metric=spec.metric_name or "error", direction=spec.external_metric[1], full_horizon=spec.model.steps,
        # One pass: the loop alone knows how many there are.
        steps_per_epoch=spec.model.steps, parameter_count=spec.model.parameters or 0,
        train_rows=spec.model.train_rows or 0, validation_rows=0, test_rows=0, data_hash="",
        data_report=[], pack_step_s=step_s, probe_pack_size=1,
        max_pack_size=1, best_width=1, engine=ENGINE, engine_reason="a loop of your own", device=ENGINE, versions={}, folds=1,
    )  # fmt: skip


def told_rows(runs: Iterable[Values | None]) -> int:
    """How many rows of the test split each run told the scores of; 0 unless all of them told as many. None: a run that
    diverged.
    """
    sizes = {len(rows) for rows in runs if rows is not None}
    return sizes.pop() if len(sizes) == 1 else 0


def one_score(metric: float) -> Values:
    """A run without row scores, as if it had been scored on one row: what varies is then the seeds' part alone."""
    return np.array([metric], dtype=np.float64)
