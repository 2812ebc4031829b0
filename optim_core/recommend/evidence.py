"""What the confirmation measured: per configuration the scores of single rows, folds and seeds shared by all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from optim_core.recommend.external import one_score, told_rows
from optim_core.recommend.history import excluded_seeds, probe_report, searched_spread
from optim_core.recommend.interval import CLAIM_SEEDS_ONE_SPLIT
from optim_core.recommend.row_scores import NEEDS_TARGETS, Values, filled
from optim_core.spec.problem import FOLDS
from optim_core.spec.rowscores import unpack
from optim_core.spec.trial import Configuration, ProbeReport, ReferenceName, Role, StudyView, UnitView


@dataclass(frozen=True)
class Confirmed:
    """A confirmed configuration. ``folds``: per fold (w, S, n), see ``row_scores``; runs that diverged count as the worst.

    ``metrics``: the metric of each of its runs on the test split, NaN where it diverged.
    """

    configuration: Configuration
    roles: frozenset[Role]
    folds: list[Values]
    metrics: NDArray[np.float64]
    diverged_n: int

    @property
    def optimizer(self) -> str:
        return self.configuration.optimizer


@dataclass(frozen=True)
class Reference:
    """A model of another kind. ``folds``: like a configuration's; every seed has the same. ``train_rows``: it was fitted to."""

    folds: list[Values]
    train_rows: int


@dataclass(frozen=True)
class Evidence:
    """All confirmed configurations. ``look``: 0 or 1. ``whole``: all folds were test splits in turn, or one was for several
    seeds, as a verdict needs. ``rows``: how many were scored. ``targets``: per fold (n,), for metrics that need them.
    ``trivial``: what one answer for every row scores, per fold (w, S, n) like a configuration's; None where that is not
    finite. ``train_rows``: of one run, where there is one split. ``called``: the metric as the person calls it. ``rows`` is 0
    where each run told one score: then evidence is over seeds alone. ``groups``: per fold (n,) labels of rows that are not
    independent of each other, None where all are. ``weights``: per fold (n,), where rows do not count alike. ``references``:
    models of another kind, those that were fitted for every fold. ``each``: what a row is called, see ``StudySpec.each``.
    ``spread``: see ``history.searched_spread``; only of a loop.
    """

    metric: str
    confirmed: list[Confirmed]
    seeds: list[int]
    fold_n: int
    look: int
    whole: bool
    rows: int
    targets: list[Values] | None
    trivial: list[Values] | None
    train_rows: int | None
    called: str
    spread: float | None = None
    groups: list[NDArray[np.integer]] | None = None
    weights: list[Values] | None = None
    references: dict[ReferenceName, Reference] = field(default_factory=dict)
    each: str = "row"

    def role(self, role: Role) -> Confirmed:
        """The configuration with that role."""
        return next(c for c in self.confirmed if role in c.roles)

    @property
    def rivals(self) -> list[Confirmed]:
        return [c for c in self.confirmed if "rival" in c.roles]

    @property
    def wide(self) -> bool:
        """Whether each row was also scored as an unused validation row."""
        return self.confirmed[0].folds[0].shape[0] > 1

    @property
    def runs(self) -> int:
        """Trainings of one configuration."""
        return self.fold_n * len(self.seeds)


# (fold, seed) → split → the run's stored rows; a run that diverged has none.
Runs = dict[tuple[int, int], Mapping[str, Values]]


def evidence(view: StudyView) -> Evidence | None:
    """Collect every finished confirmation run; None before a whole look has ended.

    A later look counts once all of it is there, so that folds and seeds are the same for all configurations.
    """
    units = _finished_looks(view)
    if not units:
        return None
    probe = probe_report(view)
    left_out = excluded_seeds(view)
    found, targets = _runs(units, left_out), _truth(units, "targets")
    folds = sorted({unit.spec.fold or 0 for unit in units})
    every = (t for u in units for t in u.spec.trials if t.seed not in left_out)
    trials = sorted(every, key=lambda t: t.number)
    if not trials:
        return None
    seeds = list(dict.fromkeys(trial.seed for trial in trials))
    turns = probe.folds or (FOLDS if view.spec.in_folds else 1)
    whole = len(folds) == turns if len(folds) > 1 else len(seeds) >= CLAIM_SEEDS_ONE_SPLIT
    told = told_rows(_kept(found)) if view.spec.external else None
    found = _one_score_each(found) if told == 0 else found
    rows, metric = _rows_per_fold(found, folds, turns), probe.metric
    wide = (
        whole
        and len(folds) > 1
        and all("validation" in r for _, _, own, _ in found.values() for r in own.values() if r)
    )
    weights = _truth(units, "weights")
    wanted = [targets[k] for k in folds] if metric in NEEDS_TARGETS else None
    unlearned = _trivial(units, seeds)
    floor = [_fold(unlearned, k, len(folds), seeds, rows[k], wide) for k in folds]
    arrays = [[_fold(own, k, len(folds), seeds, rows[k], wide) for k in folds] for _, _, own, _ in found.values()]
    confirmed = [
        Confirmed(configuration, roles, clean, np.array(metrics), int(np.isnan(metrics).sum()))
        for (configuration, roles, _, metrics), clean in zip(
            found.values(), filled(arrays, metric, wanted), strict=True
        )
    ]
    return Evidence(
        metric=metric,
        confirmed=confirmed,
        seeds=seeds,
        fold_n=len(folds),
        look=max(unit.spec.rung for unit in units),
        whole=whole,
        rows=_scored(probe, sum(rows.values()), len(folds), turns) if told is None else told,
        targets=wanted,
        trivial=floor if all(np.isfinite(fold).all() for fold in floor) else None,
        # Of a person's own loop nobody else knows: as many as were scored is rather too few.
        train_rows=(probe.train_rows or told) if len(folds) == 1 else None,
        called=metric if told is None else view.spec.external_metric[0],
        spread=None if told is None else searched_spread(view),
        groups=_groups(units, folds),
        weights=[weights[k] for k in folds] if weights else None,
        references=_references(
            view, lambda runs: [_fold(runs, k, len(folds), seeds, rows[k], wide) for k in folds], folds, seeds
        ),
        each=view.spec.each,
    )


def _references(
    view: StudyView, folds_of: Callable[[Runs], list[Values]], turns: Sequence[int], seeds: Sequence[int]
) -> dict[ReferenceName, Reference]:
    """Those that have rows of every fold, as runs with the seeds of the trials."""
    found: dict[ReferenceName, tuple[Runs, list[int]]] = {}
    for unit in view.units:
        for one in unit.result.references if unit.result is not None else ():
            kept = {split: np.asarray(unpack(text), dtype=np.float64) for split, text in one.rows.items()}
            runs, trained = found.setdefault(one.name, ({}, []))
            runs |= {(unit.spec.fold or 0, seed): kept for seed in seeds}
            trained.append(one.train_rows)
    whole: dict[ReferenceName, Reference] = {}
    for name, (runs, trained) in found.items():
        if not {(k, seed) for k in turns for seed in seeds} <= runs.keys():
            continue
        folds = folds_of(runs)
        if all(np.isfinite(fold).all() for fold in folds):
            whole[name] = Reference(folds, max(trained))
    return whole


def _scored(probe: ProbeReport, kept: int, folds: int, turns: int) -> int:
    """Rows of the test splits. ``kept``: values stored of them, which for many rows are means of blocks."""
    rows = probe.test_rows
    if turns > 1:
        rows = round((probe.train_rows + probe.validation_rows + probe.test_rows) * folds / turns)
    # Folds differ by a row.
    return kept if rows - kept <= folds else rows


def _finished_looks(view: StudyView) -> list[UnitView]:
    """Confirmation units of the looks that are complete, from the first on."""
    complete: list[UnitView] = []
    for look in range(1 + max((u.spec.rung for u in view.units if u.spec.kind == "confirm"), default=-1)):
        units = [u for u in view.units if u.spec.kind == "confirm" and u.spec.rung == look]
        if not units or any(u.result is None for u in units):
            break
        complete += sorted(units, key=lambda u: u.spec.key)
    return complete


Found = dict[str, tuple[Configuration, frozenset[Role], Runs, list[float]]]


def _runs(units: Sequence[UnitView], left_out: Collection[int]) -> Found:
    """Configuration (as JSON) → it, its roles, its runs and their metrics, by trial number. ``left_out``: seeds."""
    found: Found = {}
    pairs = []
    for unit in units:
        assert unit.result is not None
        results = {result.number: result for result in unit.result.trials}
        pairs += [(trial, unit, results[trial.number]) for trial in unit.spec.trials if trial.seed not in left_out]
    for trial, unit, result in sorted(pairs, key=lambda pair: pair[0].number):
        key = trial.configuration.model_dump_json()
        _, _, runs, metrics = found.setdefault(key, (trial.configuration, frozenset(trial.roles), {}, []))
        runs[unit.spec.fold or 0, trial.seed] = {
            split: np.asarray(unpack(text), dtype=np.float64) for split, text in result.rows.items()
        }
        metrics.append(np.nan if result.metric is None else result.metric)
    return found


def _kept(found: Found) -> list[Values | None]:
    """Test rows of every run that did not diverge, empty where it has none; None for one that diverged."""
    return [
        None if np.isnan(metric) else kept.get("test", np.empty(0))
        for _, _, runs, metrics in found.values()
        for kept, metric in zip(runs.values(), metrics, strict=True)
    ]


def _one_score_each(found: Found) -> Found:
    """The runs with their metric in the place of row scores."""
    return {
        key: (configuration, roles, {
            where: {} if np.isnan(metric) else {"test": one_score(metric)}
            for where, metric in zip(runs, metrics, strict=True)
        }, metrics)
        for key, (configuration, roles, runs, metrics) in found.items()
    }  # fmt: skip


def _truth(units: Sequence[UnitView], what: Literal["targets", "weights"]) -> dict[int, Values]:
    """Fold → true values or weights of its rows, from the runs that had it as their test split."""
    return {
        unit.spec.fold or 0: np.asarray(unpack(getattr(unit.result, what)["test"]), dtype=np.float64)
        for unit in units
        if unit.result is not None and "test" in getattr(unit.result, what)
    }


def _trivial(units: Sequence[UnitView], seeds: Sequence[int]) -> Runs:
    """What one answer for every row scores, as runs with the seeds of the trials."""
    found: Runs = {}
    for unit in units:
        assert unit.result is not None
        kept = {split: np.asarray(unpack(text), dtype=np.float64) for split, text in unit.result.trivial.items()}
        found |= {(unit.spec.fold or 0, seed): kept for seed in seeds}
    return found


def _groups(units: Sequence[UnitView], folds: Sequence[int]) -> list[NDArray[np.integer]] | None:
    """Per fold the labels that its test rows came with; None where some have none."""
    found = {u.spec.fold or 0: unpack(u.result.groups) for u in units if u.result is not None and u.result.groups}
    return [np.asarray(found[fold], dtype=np.int64) for fold in folds] if all(k in found for k in folds) else None


def _rows_per_fold(found: Found, folds: Sequence[int], turns: int) -> dict[int, int]:
    """Fold → its number of rows, from any run that has some. ``turns``: folds that take turns."""
    rows = dict.fromkeys(folds, 1)
    for _, _, runs, _ in found.values():
        for (fold, _), kept in runs.items():
            for split, place in (("test", fold), ("validation", (fold + 1) % turns)):
                if split in kept and place in rows and (split == "test" or len(folds) == turns > 1):
                    rows[place] = len(kept[split])
    return rows


def _fold(runs: Runs, fold: int, folds: int, seeds: Sequence[int], rows: int, wide: bool) -> Values:
    """(w, S, n) of a fold: runs that had it as test split, and those for which it was the unused validation split."""
    sources = [(fold, "test"), *([((fold - 1) % folds, "validation")] if wide else [])]
    missing = np.full(rows, np.nan)
    return np.array([[runs[place, seed].get(split, missing) for seed in seeds] for place, split in sources])
