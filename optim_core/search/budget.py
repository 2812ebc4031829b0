"""From a budget to a number of trials, once, from the probe. All later planning counts trials, so plans repeat."""

from __future__ import annotations

from optim_core.spec.problem import Budget
from optim_core.spec.trial import ProbeReport, StudyView

# Share of a budget in time that search may use; confirmation, evaluation and planning live on the rest.
SEARCH_SHARE = 0.6
MOST_TRIALS = 5000


def full_trial_seconds(probe: ProbeReport) -> float:
    """Seconds that one trial of a full pack takes for a full run on one worker."""
    return probe.full_horizon * probe.pack_step_s / probe.probe_pack_size


def planned_trials(budget: Budget, probe: ProbeReport, steps_per_trial: float) -> int:
    """Search trials that fit; ``steps_per_trial`` is their mean cost over all rungs. At least 1."""
    limits = [MOST_TRIALS]
    if budget.trials is not None:
        limits.append(budget.trials)
    if budget.train_steps is not None:
        limits.append(int(budget.train_steps * SEARCH_SHARE / steps_per_trial))
    seconds = min(s for s in (budget.seconds, budget.device_seconds, float("inf")) if s is not None)
    if seconds < float("inf"):
        per_trial = steps_per_trial * probe.pack_step_s / probe.probe_pack_size
        limits.append(int(seconds * SEARCH_SHARE / per_trial))
    return max(1, min(limits))


def time_is_up(view: StudyView) -> bool:
    """Whether a limit in time has no room left for more search."""
    budget = view.spec.budget
    return (budget.seconds is not None and view.elapsed_s >= SEARCH_SHARE * budget.seconds) or (
        budget.device_seconds is not None and view.device_s >= SEARCH_SHARE * budget.device_seconds
    )
