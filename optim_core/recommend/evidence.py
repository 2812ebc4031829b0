"""Confirmed scores, paired by seed, read from a study's view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optim_core.spec.trial import Configuration, StudyView


@dataclass(frozen=True)
class Confirmed:
    """A configuration with its metric on each fresh seed, (n,), in the order of the seeds."""

    configuration: Configuration
    roles: frozenset[str]
    values: NDArray[np.float64]
    diverged_n: int


@dataclass(frozen=True)
class Scores:
    """All confirmed configurations on the same seeds. ``sign`` is +1 when a larger metric is better, else −1."""

    confirmed: list[Confirmed]
    seeds: list[int]
    sign: int

    def role(self, role: str) -> Confirmed:
        """The configuration with that role (``adamw_tuned``, ``adamw_default``)."""
        return next(c for c in self.confirmed if role in c.roles)

    def gain(self, a: Confirmed, b: Confirmed) -> NDArray[np.float64]:
        """Paired differences (n,), positive where ``a`` is better than ``b``."""
        return self.sign * (a.values - b.values)


def confirmed_scores(view: StudyView) -> Scores:
    """Collect every finished confirmation trial. A diverged run counts as the worst value that any run of the study had."""
    maximise = _direction(view) == "maximize"
    rows: dict[str, tuple[Configuration, str, dict[int, float | None]]] = {}
    seen: list[float] = []
    for unit in sorted(view.units, key=lambda u: u.spec.key):
        if unit.result is None:
            continue
        by_number = {trial.number: trial for trial in unit.spec.trials}
        for result in unit.result.trials:
            if result.metric is not None:
                seen.append(result.metric)
            if unit.spec.kind == "confirm":
                trial = by_number[result.number]
                key = trial.configuration.model_dump_json()
                rows.setdefault(key, (trial.configuration, trial.origin, {}))[2][trial.seed] = result.metric
    worst = (min(seen) if maximise else max(seen)) if seen else 0.0
    seeds = _seed_order(view)
    confirmed = [
        Confirmed(
            configuration,
            frozenset(origin.split("+")),
            np.array([worst if by_seed[s] is None else by_seed[s] for s in seeds], dtype=np.float64),
            sum(value is None for value in by_seed.values()),
        )
        for configuration, origin, by_seed in rows.values()
    ]
    confirmed.sort(key=lambda c: c.configuration.model_dump_json())
    return Scores(confirmed, seeds, 1 if maximise else -1)


def _direction(view: StudyView) -> str:
    return next(u.result.probe.direction for u in view.units if u.result is not None and u.result.probe is not None)


def _seed_order(view: StudyView) -> list[int]:
    trials = [t for u in view.units if u.spec.kind == "confirm" and u.result is not None for t in u.spec.trials]
    return list(dict.fromkeys(t.seed for t in sorted(trials, key=lambda t: t.number)))
