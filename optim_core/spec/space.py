"""Search spaces: which hyperparameters of an optimizer are varied, over which domain, at which budget.

A *point* is what a sampler proposes: one number or choice per domain. A *configuration* is what gets trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from optim_core.spec.optimizers import OPTIMIZERS, Hyperparameter
from optim_core.spec.problem import Search
from optim_core.spec.schedules import SCHEDULES, complete_schedule
from optim_core.spec.techniques import TECHNIQUES, complete_techniques
from optim_core.spec.trial import Configuration

SCHEDULE_MIN_TRIALS = 6
WARMUP_MIN_TRIALS = 12

Choice = str | float | bool


@dataclass(frozen=True)
class Domain:
    """One axis. ``float``: [low, high] on the *sampled* scale (1 − value when ``one_minus``). ``categorical``: choices."""

    kind: Literal["float", "categorical"]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    one_minus: bool = False
    choices: tuple[Choice, ...] = ()

    def value(self, sampled: Choice) -> Choice:
        """The hyperparameter's value for what was sampled."""
        return 1.0 - float(sampled) if self.one_minus else sampled

    def sampled(self, value: Choice) -> Choice:
        """The inverse of ``value``, moved into the domain when it lies outside."""
        if self.kind == "categorical":
            return value if value in self.choices else self.choices[0]
        raw = 1.0 - float(value) if self.one_minus else float(value)
        return min(max(raw, self.low), self.high)


def search_space(optimizer: str, n_trials: int, search: Search) -> dict[str, Domain]:
    """The axes searched for ``optimizer`` when about ``n_trials`` trials are spent on it.

    Few trials vary the learning rate alone; more add momentum or beta1, schedule, weight decay, eps and beta2: a rich
    space at a small budget loses to a poor one (Deep Learning Tuning Playbook). A range given by the person is always
    searched, whatever the budget; low == high fixes the value.
    """
    row = OPTIMIZERS[optimizer]
    given = search.ranges.get(optimizer, {})
    space: dict[str, Domain] = {}
    for hyper in row.hyperparameters:
        searched = hyper.min_trials is not None and n_trials >= hyper.min_trials
        if hyper.name in given:
            low, high = given[hyper.name]
            if low < high:
                space[hyper.name] = _domain(hyper, low, high)
        elif searched:
            space[hyper.name] = _domain(hyper, hyper.low, hyper.high)
    names = allowed_schedules(optimizer, search)
    if len(names) > 1 and n_trials >= SCHEDULE_MIN_TRIALS:
        space["schedule"] = Domain("categorical", choices=tuple(names))
    if len(row.warmup) > 1 and n_trials >= WARMUP_MIN_TRIALS and any(SCHEDULES[name].takes_warmup for name in names):
        space["warmup_fraction"] = Domain("categorical", choices=row.warmup)
    for name, values in technique_choices(search).items():
        if len(values) > 1:
            space[name] = Domain("categorical", choices=values)
    return space


def technique_choices(search: Search) -> dict[str, tuple[float, ...]]:
    """Technique → its values, the first of which is the default."""
    return {name: tuple(values) or TECHNIQUES[name].choices for name, values in search.techniques.items()}


def allowed_schedules(optimizer: str, search: Search) -> list[str]:
    """The optimizer's own schedules, or those that the person names and that fit it; its default when nothing is left."""
    row = OPTIMIZERS[optimizer]
    if search.schedules is None:
        return list(row.schedules)
    asked = [SCHEDULES[name] for name in search.schedules]
    fitting = [
        schedule.name
        for schedule in asked
        if row.fits_schedule(decays=schedule.decays, restarts=schedule.restarts, constant=schedule.name == "constant")
    ]
    return fitting or [row.default_schedule]


def default_configuration(optimizer: str, search: Search | None = None) -> Configuration:
    """The optimizer's good defaults, moved inside the ranges that the person gave."""
    return configuration_from(optimizer, {}, search or Search())


def configuration_from(optimizer: str, point: Mapping[str, Choice], search: Search) -> Configuration:
    """The configuration for a sampled point; axes that the point leaves out take their defaults."""
    row = OPTIMIZERS[optimizer]
    given = search.ranges.get(optimizer, {})
    hyperparameters: dict[str, float | bool] = {}
    for hyper in row.hyperparameters:
        value: Choice = hyper.default
        if hyper.name in point:
            value = 1.0 - float(point[hyper.name]) if hyper.sample_as == "one_minus" else point[hyper.name]
        if hyper.name in given:
            low, high = given[hyper.name]
            value = min(max(float(value), low), high)
        hyperparameters[hyper.name] = (
            value if isinstance(value, bool) else float(round(float(value)) if hyper.whole else value)
        )
    names = allowed_schedules(optimizer, search)
    default = row.default_schedule if row.default_schedule in names else names[0]
    schedule = str(point.get("schedule", default))
    parts: dict[str, str | float] = {"name": schedule}
    if any(p.name == "warmup_fraction" for p in SCHEDULES[schedule].parameters):
        parts["warmup_fraction"] = float(point.get("warmup_fraction", row.warmup[0]))
    techniques = {name: float(point.get(name, values[0])) for name, values in technique_choices(search).items()}
    return Configuration(
        optimizer=optimizer,
        hyperparameters=hyperparameters,
        schedule=complete_schedule(parts),
        techniques=complete_techniques(techniques),
    )


def point_from(configuration: Configuration, space: Mapping[str, Domain]) -> dict[str, Choice]:
    """The point of ``space`` that stands for a configuration, so that defaults and sweeps also teach a sampler."""
    values: dict[str, Choice] = {**configuration.hyperparameters}
    values["schedule"] = configuration.schedule["name"]
    values["warmup_fraction"] = configuration.schedule.get("warmup_fraction", 0.0)
    values |= {name: configuration.techniques.get(name, 0.0) for name in TECHNIQUES if name in space}
    return {name: domain.sampled(values[name]) for name, domain in space.items()}


def _domain(hyper: Hyperparameter, low: float, high: float) -> Domain:
    if hyper.sample_as == "flag":
        return Domain("categorical", choices=(False, True))
    if hyper.sample_as == "one_minus":
        return Domain("float", 1.0 - high, 1.0 - low, log=True, one_minus=True)
    return Domain("float", low, high, log=hyper.log and low > 0 and math.isfinite(high))
