"""What a budget will buy and what a verdict needs, said before the budget is spent."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from optim_core.recommend import wording
from optim_core.recommend.external import timed
from optim_core.recommend.history import known_probe, probe_unit
from optim_core.search import rungs
from optim_core.search.budget import MOST_RESERVED, comparing_s, lanes, reserve_steps, step_seconds, surely_beside
from optim_core.search.confirm import looks_runs
from optim_core.spec.price import needed_trials, price
from optim_core.spec.recommendation import Decide
from optim_core.spec.trial import ProbeReport, StudyView

# Full-length trials of AdamW and of each of the better rivals that a verdict rests on.
FULL_TRIALS = 3
# What was counted is the least; divergence and waiting cost more.
SLACK = 1.25


@dataclass(frozen=True)
class Forecast:
    """``trainings``: full trainings that the budget pays for, search and confirmation together. ``needed_s``: a budget in
    seconds that should be enough for a verdict on this machine, None where nothing was timed. ``needed_trials``: search trials
    that should be, None unless the budget is in trials alone. ``enough``: whether this budget is."""

    trainings: float
    needed_s: float | None
    needed_trials: int | None
    enough: bool
    sentence: str

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @property
    def suffices(self) -> Decide | None:
        """A budget that should be enough for a verdict, in the unit of the one that is not; None where it is."""
        if self.enough or (self.needed_trials is None and self.needed_s is None):
            return None
        seconds = None if self.needed_trials is not None else wording.typed(self.needed_s or 0.0)
        return Decide(seconds=seconds, trials=self.needed_trials)


def forecast(view: StudyView) -> Forecast | None:
    """None before anything is known of how long a step takes; a loop's budget in trials needs not know."""
    probe, spec = known_probe(view), view.spec
    if probe is None:
        return None
    budget, needed = spec.budget, _needed_s(view, probe)
    asked = price(spec)
    if needed is None and asked is None:
        return None
    by_count = budget.trials is not None and budget.train_steps is None and not math.isfinite(budget.shortest_s)
    trials = needed_trials(spec)
    trainings, enough = [], budget.trials is None or budget.trials >= trials
    if needed is not None:
        each_s = probe.full_horizon * step_seconds(view, probe, lanes(view))
        for allowed, rate in ((budget.seconds, 1.0), (budget.device_seconds, lanes(view))):
            if allowed is not None:
                trainings.append(allowed / (each_s * rate))
                enough = enough and allowed >= needed * rate
    if budget.train_steps is not None:
        trainings.append(budget.train_steps / probe.full_horizon)
        enough = enough and budget.train_steps >= needed_steps(view, probe)
    if budget.trials is not None:
        trainings.append(float(budget.trials))
    bought, counted = min(trainings), trials if by_count else None
    said = wording.forecast_sentence(bought, needed, counted, enough=enough) if asked is None else asked.sentence
    return Forecast(bought, needed, counted, enough, said)


def _needed_s(view: StudyView, probe: ProbeReport) -> float | None:
    """A budget in seconds that should be enough, at the speed measured so far; None before any was."""
    done, known = probe_unit(view), not view.spec.external or timed(view.spec)
    if not known and not any(o.result.seconds > 0 for o in view.units if o.result is not None):
        return None
    needed = needed_steps(view, probe) * step_seconds(view, probe, lanes(view)) * SLACK
    needed += done.result.seconds if done is not None and done.result is not None else 0.0
    # Which optimizers compete is settled by what was probed.
    return max(needed, comparing_s(view.spec, probe, surely_beside(view))) if known else needed


def needed_steps(view: StudyView, probe: ProbeReport) -> float:
    """Trial-steps of a search that brackets every rate, of screening, and of the first look of a confirmation."""
    full = probe.full_horizon
    rivals = len(view.spec.search.included()) - 1
    # The shortest ladder that still lets rates be bracketed one rung below the full horizon.
    ladder = rungs.horizons(full, 1.0, rivals + 1)
    low = ladder[-2] if len(ladder) > 1 else full
    search = needed_trials(view.spec) * low + (FULL_TRIALS * min(rivals + 1, 4) * full if len(ladder) > 1 else 0)
    # The reserve holds two looks; one is enough to decide most.
    runs = looks_runs(view.spec, probe)
    kept = reserve_steps(view.spec, probe, rivals, 0) * runs[0] / sum(runs)
    return max(search + kept, kept / MOST_RESERVED)
