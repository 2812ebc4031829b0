"""Proposals: one Optuna study per optimizer, rebuilt from the history each time. Nothing survives but the trials."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from optim_core.search.history import Outcome
from optim_core.spec.keys import derive_seed
from optim_core.spec.problem import Search
from optim_core.spec.space import Domain, configuration_from, point_from, search_space
from optim_core.spec.trial import Configuration

# Below this many results the proposals are quasi-random: a model of three points is a superstition.
STARTUP_TRIALS = 6

optuna.logging.set_verbosity(optuna.logging.ERROR)


def suggest(
    optimizer: str, count: int, seen: Sequence[Outcome], budgeted: int, search: Search, seed: int, generation: int
) -> list[Configuration]:
    """``count`` new configurations of ``optimizer``.

    ``seen``: its outcomes so far; ``budgeted``: trials it will have in all, which sets how rich its space is. The same
    arguments give the same proposals, in any process.
    """
    space = search_space(optimizer, budgeted, search)
    if not space:
        return []
    study = _study(optimizer, space, seen, derive_seed("suggest", seed, optimizer, generation))
    proposals: list[Configuration] = []
    known = {o.trial.configuration.model_dump_json() for o in seen}
    for _ in range(4 * count):
        if len(proposals) == count:
            break
        point = study.ask({name: _distribution(domain) for name, domain in space.items()}).params
        configuration = configuration_from(optimizer, point, search)
        if configuration.model_dump_json() not in known:
            known.add(configuration.model_dump_json())
            proposals.append(configuration)
    return proposals


def _study(optimizer: str, space: dict[str, Domain], seen: Sequence[Outcome], seed: int) -> optuna.Study:
    distributions = {name: _distribution(domain) for name, domain in space.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        start = optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
        model = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=0)
    enough = len(seen) >= STARTUP_TRIALS
    study = optuna.create_study(sampler=model if enough else start, direction="minimize")
    for outcome in sorted(seen, key=lambda o: (o.rung, o.trial.number)):
        point = point_from(outcome.trial.configuration, space)
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                params=dict(point),
                distributions=distributions,
                value=outcome.result.objective,
            )
        )
    return study


def _distribution(domain: Domain) -> BaseDistribution:
    if domain.kind == "categorical":
        return CategoricalDistribution(domain.choices)
    return FloatDistribution(domain.low, domain.high, log=domain.log)
