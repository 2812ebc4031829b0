"""Train the recommended configuration again as it was confirmed, on its folds and seeds, and compare with the stored score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optim_core.recommend.row_scores import NEEDS_TARGETS, Folds, filled, row_scores
from optim_core.spec.keys import canonical_json
from optim_core.spec.problem import BOUNDS, MAXIMISED, StudySpec
from optim_core.spec.rowscores import unpack
from optim_core.spec.trial import Configuration, Split, TrialParams, UnitResult, UnitSpec

if TYPE_CHECKING:
    from optim_core.tasks.task import Task

# Another number of threads, library version or device adds up floats in another order.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Replayed:
    """``same``: equal bit for bit. ``close``: equal but for rounding. ``mean``: None when runs that diverged leave it open.
    ``values``: the test metric of each run, fold by fold; None diverged. ``data_changed``: the data are others, so that
    nothing was trained.
    """

    stored: float
    mean: float | None
    values: list[float | None]
    same: bool
    close: bool
    data_changed: bool

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "stored": self.stored, "replayed": self.mean, "values": self.values, "identical": self.same,
            "reproduced": self.close, "data_changed": self.data_changed,
        }  # fmt: skip


def replay(
    spec: dict[str, Any],
    answer: dict[str, Any],
    progress: Callable[[str], None],
    roots: Sequence[str] | None = None,
) -> Replayed:
    """Run the recommendation's seeds on each of its folds to the full horizon, where the data are those of the study.

    ``roots``: folders in which files may lie; None means anywhere. Raises SpecError or TrainingError as the study would.
    """
    from workers.training import source_of

    source, asked = source_of(StudySpec.model_validate_json(canonical_json(spec)), "cpu", roots), answer["replay"]
    recommended = {key: answer["recommended"][key] for key in Configuration.model_fields}
    configuration = Configuration.model_validate_json(canonical_json(recommended))
    trials = [
        TrialParams(number=i, configuration=configuration, seed=seed, stage="confirm", origin="replay")
        for i, seed in enumerate(asked["seeds"])
    ]
    folds, stored = asked["folds"], answer["score"]["mean"]
    searched = source.problem()
    if searched.data_hash != asked["data_hash"]:
        return Replayed(stored, None, [], same=False, close=False, data_changed=True)
    results = []
    for fold in range(folds):
        problem = source.problem(fold) if fold else searched
        unit = UnitSpec(
            key="replay", kind="confirm", rung=0, horizon=searched.full_horizon, split="test",
            fold=fold if folds > 1 else None, trials=trials,
        )  # fmt: skip
        results.append(_run(problem, unit, f"fold {fold + 1}/{folds}, " if folds > 1 else "", progress))
    mean = score_of(searched.metric, results, asked["wide"])
    off = None if mean is None else abs(mean - stored)
    return Replayed(
        stored=stored,
        mean=mean,
        values=[trial.metric for result in results for trial in result.trials],
        same=off is not None and off <= 1e-12 * max(1.0, abs(stored)),
        close=off is not None and off <= ROUNDING * max(1e-12, abs(stored)),
        data_changed=False,
    )


def _run(problem: Task, unit: UnitSpec, where: str, progress: Callable[[str], None]) -> UnitResult:
    from optim_core.engine import Chunk, run_pack

    def show(chunk: Chunk) -> bool:
        progress(f"{where}step {chunk.step}/{chunk.horizon}")
        return True

    return run_pack(problem, unit, on_chunk=show)


def score_of(metric: str, results: Sequence[UnitResult], wide: bool) -> float | None:
    """The score of a configuration that was confirmed by ``results``: one of each fold, the same seeds in the same order.

    ``wide``: each row counts twice, as a test row and as an unused validation row.
    """
    values, targets, weights = [], [], []
    for fold, own in enumerate(results):
        turns: list[tuple[UnitResult, Split]] = [(own, "test")]
        if wide:
            turns.append((results[fold - 1], "validation"))
        runs = [[trial.rows.get(split) for trial in result.trials] for result, split in turns]
        found = next((unpack(rows) for turn in runs for rows in turn if rows is not None), None)
        if found is None:
            return None
        nothing = np.full(len(found), np.nan)
        values.append(np.array([[nothing if rows is None else unpack(rows) for rows in turn] for turn in runs], float))
        if metric in NEEDS_TARGETS:
            truth = next(result.targets[split] for result, split in turns if split in result.targets)
            targets.append(np.array(unpack(truth), float))
        weights += [np.array(unpack(result.weights[s]), float) for result, s in turns[:1] if s in result.weights]
    return pooled_score(metric, values, targets or None, weights or None)


def pooled_score(metric: str, values: Folds, targets: Folds | None, weights: Folds | None = None) -> float | None:
    """The pooled estimate of one configuration, see ``recommend.row_scores``; NaN marks runs that diverged.

    They count as the worst value of the metric. None where it has none: what stands for it depends on other configurations.
    """
    worst = metric in MAXIMISED and math.isfinite(BOUNDS[metric][0])
    if not worst and not all(np.isfinite(fold).all() for fold in values):
        return None
    return row_scores(filled([values], metric, targets)[0], metric, targets, weights).value
